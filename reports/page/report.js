"use strict";
// One state (filters, selected rows, the row that is looked at), shown three times: in the table and in both plots.

const { by, indicator, line, rows } = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const trs = [...get("rows").children];
const RING = "looked at";
const SYMBOLS = { 8: "circle", 7: "square", 6: "triangle-up" };
const plots = [];
const selected = new Set();
let looked = 0;
let hovered = null;
let shown = rows.map((_, index) => index);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const colourOf = (bits) => colour(bits in SYMBOLS ? `bits${bits}` : "other");
const known = (value) => value !== null && value !== undefined;

// ---- plots

function layoutOf(xTitle, yTitle, more) {
  const axis = (title) => ({ title: { text: title }, gridcolor: colour("line"), zeroline: false, automargin: true });
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("text"), size: 12 },
    margin: { l: 50, r: 10, t: 32, b: 45 }, hovermode: "closest", hoverlabel: { align: "left", bgcolor: colour("back"), bordercolor: colour("faint"), font: { color: colour("text") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("accent"), orientation: innerWidth < 700 ? "v" : "h" },
    legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0 },
    // A finger scrolls the page; the buttons of the plot give it a box.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "select",
    xaxis: { ...axis(xTitle), ...more.xaxis }, yaxis: { ...axis(yTitle), ...more.yaxis }, shapes: more.shapes ?? [],
  };
}

// Where there is a mouse, dragging selects, and buttons are not needed until it is there.
const CONFIG = { responsive: true, displaylogo: false, displayModeBar: matchMedia("(pointer: coarse)").matches ? true : "hover", modeBarButtonsToRemove: ["toImage", "autoScale2d"] };

function hover(row) {
  const angles = Object.keys(row.angle).filter((effect) => known(row.angle[effect]));
  return `<b>${row.name}</b> rank ${row.rank}<br>` + angles.map((e) => `${e}: ${row.angle[e].toFixed(3)}°, ${row.source[e]}`).join("<br>");
}

// A trace for every width, and a last one for the ring around what is looked at.
function tracesOf(indices, x, y, source, intervals) {
  const widths = [...new Set(rows.map((row) => row.bits))].sort((a, b) => (b ?? 0) - (a ?? 0));
  const traces = widths.map((bits) => {
    const mine = indices.filter((index) => rows[index].bits === bits);
    return {
      type: "scatter", mode: "markers", name: known(bits) ? `${bits} bits` : "custom", customdata: mine,
      x: mine.map(x), y: mine.map(y), text: mine.map((index) => hover(rows[index])), hovertemplate: "%{text}<extra></extra>",
      marker: {
        color: colourOf(bits), size: 7, line: { width: 1.2, color: colourOf(bits) },
        symbol: mine.map((index) => (SYMBOLS[bits] ?? "diamond") + (source(index) === "measured" ? "" : "-open")),
      },
      selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.12 } },
      ...(intervals && { error_y: { ...intervals(mine), type: "data", symmetric: false, thickness: 0.7, width: 0, color: `${colourOf(bits)}66` } }),
    };
  });
  traces.push({
    type: "scatter", mode: "markers", name: RING, showlegend: false, hoverinfo: "skip", x: [], y: [],
    marker: { size: 15, symbol: "circle-open", color: colour("text"), line: { width: 2 } },
    // Plots dim what is not selected, but never the ring.
    selectedpoints: null, unselected: { marker: { opacity: 1 } },
  });
  return traces;
}

function drawn(id, { indices, x, y, source, intervals, layout }) {
  const element = get(id);
  const draw = () => Plotly.react(element, tracesOf(indices, x, y, source, intervals), layout(), CONFIG);
  draw();
  const plot = { element, draw, indices: new Set(indices), x, y, intervals };
  element.on("plotly_hover", (event) => point(event.points[0].customdata, plot));
  element.on("plotly_unhover", () => point(null, plot));
  element.on("plotly_click", (event) => look(event.points[0].customdata));
  element.on("plotly_selected", (event) => {
    if (!event) return;
    const taken = event.points.map((found) => found.customdata).filter(known).filter(passes);
    selected.clear();
    taken.forEach((index) => selected.add(index));
    get("only").checked = selected.size > 0;
    forgetBoxes(plot);
    show();
  });
  element.on("plotly_deselect", deselect);
  plots.push(plot);
}

function forgetBoxes(except) {
  for (const plot of plots) {
    if (plot !== except && plot.element.layout.selections?.length) Plotly.relayout(plot.element, { selections: [] });
  }
}

function deselect() {
  selected.clear();
  get("only").checked = false;
  forgetBoxes(null);
  show();
}

function ring(plot) {
  const there = plot.indices.has(looked);
  const last = plot.element.data.length - 1;
  Plotly.restyle(plot.element, { x: [there ? [plot.x(looked)] : []], y: [there ? [plot.y(looked)] : []] }, [last]);
}

function dim(plot) {
  const bright = new Set(selected.size ? shown.filter((index) => selected.has(index)) : shown);
  const traces = plot.element.data.slice(0, -1);
  const numbers = traces.map((_, number) => number);
  const points = traces.map((trace) =>
    bright.size === rows.length ? null : trace.customdata.flatMap((index, number) => (bright.has(index) ? [number] : [])));
  const change = { selectedpoints: points };
  if (plot.intervals) {
    const bars = traces.map((trace) => plot.intervals(trace.customdata, bright));
    change["error_y.array"] = bars.map((bar) => bar.array);
    change["error_y.arrayminus"] = bars.map((bar) => bar.arrayminus);
  }
  Plotly.restyle(plot.element, change, numbers);
}

// What the mouse or the focus is on, in the table and in every plot but the one that says so.
function point(index, from) {
  if (index === hovered || index === undefined) return;
  if (known(hovered)) trs[hovered].classList.remove("hovered");
  hovered = index;
  if (known(index)) trs[index].classList.add("hovered");
  for (const plot of plots.filter((each) => each !== from)) {
    const curve = plot.element.data.findIndex((trace) => trace.customdata?.includes(index));
    if (curve < 0) Plotly.Fx.unhover(plot.element);
    else Plotly.Fx.hover(plot.element, [{ curveNumber: curve, pointNumber: plot.element.data[curve].customdata.indexOf(index) }]);
  }
}

// ---- table

function passes(index) {
  const row = rows[index];
  const text = get("search").value.trim().toLowerCase();
  return (!text || `${row.name} ${row.family} ${row.profile}`.toLowerCase().includes(text))
    && (!get("bits").value || String(row.bits) === get("bits").value)
    && (!get("family").value || row.family === get("family").value)
    && (!get("measured").checked || row.source[by] === "measured");
}

function show() {
  const only = get("only").checked && selected.size > 0;
  shown = rows.map((_, index) => index).filter((index) => passes(index) && (!only || selected.has(index)));
  const visible = new Set(shown);
  trs.forEach((tr, index) => {
    tr.hidden = !visible.has(index);
    tr.setAttribute("aria-selected", selected.has(index));
  });
  get("count").textContent = `${shown.length} of ${rows.length} formats` + (selected.size ? `, ${selected.size} selected` : "");
  plots.forEach(dim);
  reachable(trs[looked].hidden ? firstShown() : trs[looked]);
}

const firstShown = () => [...get("rows").children].find((tr) => !tr.hidden);

// Tab comes to one row; arrow keys go on from there.
function reachable(tr) {
  get("rows").querySelector('tr[tabindex="0"]')?.setAttribute("tabindex", "-1");
  tr?.setAttribute("tabindex", "0");
}

function compare(a, b, sign) {
  if (!known(a) || !known(b)) return known(b) - known(a);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

function sort(th) {
  const sign = th.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of th.parentElement.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const [column, ...rest] = th.dataset.column.split("."); // angle.AE, or angle.AE@mine.py:net
  const effect = rest.join(".");
  const value = (index) => (effect ? rows[index][column][effect] : rows[index][column]);
  const order = rows.map((_, index) => index).sort((a, b) => compare(value(a), value(b), sign) || a - b);
  get("rows").append(...order.map((index) => trs[index]));
}

function toggle(index) {
  if (!selected.delete(index)) selected.add(index);
  if (!selected.size) get("only").checked = false;
  show();
}

function step(tr, direction) {
  do tr = direction > 0 ? tr.nextElementSibling : tr.previousElementSibling; while (tr?.hidden);
  if (tr) { reachable(tr); tr.focus(); }
}

function listen() {
  const body = get("rows");
  const indexOf = (event) => Number(event.target.closest("tr").dataset.row);
  body.addEventListener("click", (event) => (event.ctrlKey || event.metaKey || event.shiftKey ? toggle : look)(indexOf(event)));
  body.addEventListener("mouseover", (event) => point(indexOf(event)));
  body.addEventListener("mouseleave", () => point(null));
  body.addEventListener("focusin", (event) => point(indexOf(event)));
  body.addEventListener("focusout", () => point(null));
  body.addEventListener("keydown", (event) => {
    const actions = {
      ArrowDown: (tr) => step(tr, 1), ArrowUp: (tr) => step(tr, -1),
      Enter: (tr) => look(Number(tr.dataset.row)), " ": (tr) => toggle(Number(tr.dataset.row)),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key](event.target.closest("tr"));
  });
  document.querySelectorAll("th[data-column] button").forEach((button) => button.addEventListener("click", () => sort(button.parentElement)));
  get("filters").addEventListener("input", show);
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  // The fields are empty only after the event.
  get("filters").addEventListener("reset", () => setTimeout(deselect));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plots.forEach((plot) => { plot.draw(); dim(plot); ring(plot); });
    detail();
  });
}

// ---- one format

function look(index) {
  if (!known(index)) return;
  trs[looked].classList.remove("looked");
  looked = index;
  trs[index].classList.add("looked");
  reachable(trs[index]);
  plots.forEach(ring);
  detail();
  get("details").scrollIntoView({ block: "nearest" });
  if (!trs[index].hidden) scrollTable(trs[index]);
}

// Moves the table alone: scrollIntoView would move the page as well.
function scrollTable(tr) {
  const box = get("rows").closest(".scroll");
  const head = box.querySelector("thead").offsetHeight;
  if (tr.offsetTop < box.scrollTop + head) box.scrollTop = tr.offsetTop - head;
  else if (tr.offsetTop + tr.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = tr.offsetTop + tr.offsetHeight - box.clientHeight;
}

function cell(text, tag = "td") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function detail() {
  const row = rows[looked];
  get("name").textContent = row.name;
  const facts = {
    rank: row.rank, bits: row.bits, family: row.family, "one scale per": row.granularity, profile: row.profile, binades: row.binades, gates: row.gates,
    ...Object.fromEntries(Object.keys(row.angle).filter((effect) => known(row.angle[effect])).map((effect) => [
      `angle of ${effect}`,
      `${row.angle[effect].toFixed(3)}° ${row.source[effect]}`
        + (known(row.low[effect]) ? `, 95%: ${row.low[effect].toFixed(3)} to ${row.high[effect].toFixed(3)}` : ""),
    ])),
    "gap to float32": row.gap_text,
    codes: `formats show "${row.name}"`,
  };
  const given = Object.entries(facts).filter(([, value]) => known(value) && value !== "");
  get("facts").replaceChildren(...given.flatMap(([key, value]) => [cell(key, "dt"), cell(value, "dd")]));
  const lines = row.parts.flatMap((part) => magnitudes(part, row.parts.length > 1));
  if (!lines.length) lines.push([cell("not known here: only the ranking's file was read")]);
  get("values").tBodies[0].replaceChildren(...lines.map((cells) => { const tr = document.createElement("tr"); tr.append(...cells); return tr; }));
  const bars = row.parts.filter((part) => part.profile).map((part, number) => ({
    type: "bar", name: row.parts.length > 1 ? `${["activations", "errors"][number]}: ${part.name}` : part.name,
    x: part.profile.map((_, binade) => -binade), y: part.profile, marker: { color: number ? colour("other") : colourOf(row.bits) },
    hovertemplate: "%{y} significant bits at T%{x}<extra></extra>",
  }));
  const layout = layoutOf("binade, relative to the top exponent T", "significant bits", { xaxis: { autorange: "reversed", dtick: bars[0]?.x.length > 16 ? 4 : 2 }, yaxis: { dtick: 1, rangemode: "tozero" } });
  get("profile").hidden = !bars.length;
  if (bars.length) Plotly.react("profile", bars, { ...layout, margin: { ...layout.margin, t: 10 }, dragmode: false, showlegend: bars.length > 1 }, { ...CONFIG, displayModeBar: false });
}

// A line for every binade that has values.
function magnitudes(part, named) {
  const lines = new Map();
  for (const value of part.values ?? []) {
    const binade = Math.floor(Math.log2(value));
    if (!lines.has(binade)) lines.set(binade, []);
    lines.get(binade).push(value);
  }
  const title = named ? [[cell(part.name, "th")]] : [];
  return title.concat([...lines].sort(([a], [b]) => b - a).map(([binade, values]) => [cell(`2^${binade}`), cell(values.join(", "))]));
}

// ---- start

function options(id, values) {
  get(id).append(...[...new Set(values)].filter(known).map((value) => cell(value, "option")));
}

function ties() {
  const groups = new Map();
  rows.forEach((row, place) => groups.set(row.rank, [...(groups.get(row.rank) ?? []), place + 1]));
  return [...groups.values()].filter((places) => places.length > 1).map((places) => ({
    type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, x0: Math.min(...places) - 0.42, x1: Math.max(...places) + 0.42, // a gap between two bands
    fillcolor: colour("tie"), line: { width: 0 },
  }));
}

// Where formats as good as float32 end; a line across the axis of the indicator's angle.
function goodLine() {
  return known(line) ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: line, y1: line, line: { color: colour("faint"), width: 1, dash: "dash" } }] : [];
}

// What the axis has to show: every mark, but not the ends of intervals that nothing is known of.
function highest() {
  const of = (end) => rows.map((row) => row[end][by]).filter(known);
  return Math.min(1.05 * Math.max(...of("high"), ...of("angle")), 1.5 * Math.max(...of("angle")));
}

const all = rows.map((_, index) => index);
const angle = (effect) => (index) => rows[index].angle[effect];
if ("E" in rows[0].angle && "A" in rows[0].angle) {
  const indices = all.filter((index) => angle("E")(index) > 0 && angle("A")(index) > 0);
  if (indices.length < rows.length) get("not-drawn").textContent = ` ${rows.length - indices.length} without two angles above 0 are not drawn.`;
  const log = { type: "log", tickvals: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100] };
  drawn("effects", {
    indices, x: angle("A"), y: angle("E"),
    source: (index) => (["E", "A"].every((effect) => rows[index].source[effect] === "measured") ? "measured" : "predicted"),
    layout: () => layoutOf("angle of A, activations (degrees)", "angle of E, errors (degrees)", { xaxis: log, yaxis: log, shapes: goodLine() }),
  });
} else get("effects-card").hidden = true;
const whisker = (end) => (mine, bright) => mine.map((index) =>
  known(rows[index][end][by]) && (!bright || bright.has(index)) ? Math.abs(rows[index][end][by] - rows[index].angle[by]) : 0);
drawn("ranks", {
  indices: all.filter((index) => known(angle(by)(index))), x: (index) => index + 1, y: angle(by), source: (index) => rows[index].source[by],
  intervals: (mine, bright) => ({ array: whisker("high")(mine, bright), arrayminus: whisker("low")(mine, bright) }),
  layout: () => layoutOf("place in the ranking", `angle of ${by} (degrees)`, { yaxis: { rangemode: "tozero", range: [0, highest()] }, shapes: [...ties(), ...(by === indicator ? goodLine() : [])] }),
});
options("bits", rows.map((row) => row.bits));
options("family", rows.map((row) => row.family));
listen();
trs[0].classList.add("looked");
plots.forEach(ring);
detail();
show();
document.documentElement.dataset.ready = "true";
