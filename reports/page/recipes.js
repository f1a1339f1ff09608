"use strict";
// Recipes: two planes and a table that answer to each other.
{
  const { marks, baseline } = JSON.parse(get("recipes-data").textContent);
  const body = get("recipes");
  const lines = [...body.children];
  const charts = [];
  const ends = (low, value, high, digits) => value.toPrecision(digits) + (known(low) ? ` [${low.toPrecision(digits)}, ${high.toPrecision(digits)}]` : "");
  const said = (mark) => [mark.name, `angle of the mean: ${ends(mark.low, mark.angle, mark.high, 3)}°`,
    ...(known(mark.projection) ? [`projection: ${mark.projection.toFixed(4)}`] : []),
    ...(known(mark.bias) ? [`bias: ${ends(mark.bias_low, mark.bias, mark.bias_high, 2)}`] : [])];

  function point(index) {
    lines.forEach((line, place) => line.classList.toggle("hovered", place === index));
    charts.forEach((each) => each.hover(index));
  }

  function look(index) {
    if (!known(index)) return;
    lines.forEach((line, place) => line.classList.toggle("looked", place === index));
    charts.forEach((each) => each.ring(index));
  }

  function plane(id, able, y, spec) {
    const drawn = marks.filter((mark) => mark.angle > 0 && able(mark));
    if (!drawn.length) { get(`${id}-card`).hidden = true; return drawn; }
    const anchor = drawn.find((mark) => mark.name === baseline);
    charts.push(chart(get(id), {
      axes: { x: { title: "angle of the mean over draws (degrees)", log: true }, y: spec.axis },
      marks: drawn.map((mark) => ({
        index: mark.index, x: mark.angle, left: mark.low > 0 ? mark.low : null, right: mark.high, label: mark.name, say: said(mark), ...y(mark),
        shape: mark.random ? "square" : "circle", colour: mark.random ? "bits7" : "bits8",
      })),
      entries: [{ text: "to nearest", shape: "circle", colour: "bits8" }, ...(marks.some((mark) => mark.random) ? [{ text: "with random numbers", shape: "square", colour: "bits7" }] : [])],
      lines: [...(anchor ? [{ x: anchor.angle }] : []), ...(spec.lines ?? [])],
    }, { hover: point, look }));
    return drawn;
  }

  // A bias that is not above 0 lies below all others, hollow.
  const biases = marks.map((mark) => mark.bias).filter((bias) => bias > 0);
  const floor = 0.5 * Math.min(...biases);
  const drawn = biases.length ? plane("plane", (mark) => known(mark.bias), (mark) => (mark.bias > 0
    ? { y: mark.bias, low: known(mark.bias_low) ? Math.max(mark.bias_low, floor) : null, high: mark.bias_high } : { y: floor, hollow: true }),
  { axis: { title: "bias", log: true } }) : [];
  if (!biases.length) get("plane-card").hidden = true;
  if (drawn.some((mark) => mark.bias <= 0)) get("plane-note").textContent = " Hollow: a bias that is not above 0.";
  plane("lengths", (mark) => known(mark.projection), (mark) => ({ y: mark.projection }), { axis: { title: "projection" }, lines: [{ y: 1 }] });

  const indexOf = (event) => Number(event.target.closest("tr").dataset.row);
  body.addEventListener("mouseover", (event) => point(indexOf(event)));
  body.addEventListener("mouseleave", () => point(null));
  body.addEventListener("click", (event) => look(indexOf(event)));
  const heads = [...body.closest("table").querySelectorAll("thead th")];
  heads.forEach((th, column) => th.firstElementChild.addEventListener("click", () => {
    const sign = th.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (line) => line.children[column].dataset.value;
    const compared = (a, b) => (a === "" || b === "" ? (a === "") - (b === "")
      : sign * (Number.isNaN(Number(a)) ? a.localeCompare(b, "en", { numeric: true }) : a - b));
    body.append(...[...lines].sort((one, other) => compared(value(one), value(other)) || one.dataset.row - other.dataset.row));
  }));
  document.documentElement.dataset.ready = "true";
}
