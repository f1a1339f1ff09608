"use strict";
// A ranking. One state (filters, selected rows, the row that is looked at), shown three times: in the table and in both plots.

const { by, line, minibatches, rows } = JSON.parse(get("data").textContent);
const trs = [...get("rows").children];
const SYMBOLS = { 8: "circle", 7: "square", 6: "triangle" };
const FEW = 24; // formats whose names fit beside their marks
const plots = [];
const selected = new Set();
let looked = 0;
let hovered = null;
let shown = rows.map((_, index) => index);

const colourOf = (bits) => (bits in SYMBOLS ? `bits${bits}` : "other");

// ---- plots

// How an angle was found: on few mini-batches it is an estimate too, as ~ says in the table.
const partly = (row, effect) => row.source[effect] === "measured" && known(row.n[effect]) && row.n[effect] < minibatches;

function found(row, effect) {
  return partly(row, effect) ? `measured on ${row.n[effect]} of ${minibatches} mini-batches` : row.source[effect];
}

function said(row) {
  const angles = Object.keys(row.angle).filter((effect) => known(row.angle[effect]));
  return [`${row.name}, rank ${row.rank}`, ...angles.map((e) => `${e}: ${row.angle[e].toFixed(3)}°, ${found(row, e)}`)];
}

// What is looked at is drawn last, and formats whose width is not known get a mark of their own.
function drawn(id, { indices, x, y, effects, ends, named = () => false, ...more }) {
  const widths = [...new Set(rows.map((row) => row.bits))].sort((a, b) => (b ?? 0) - (a ?? 0));
  const shapeOf = (bits) => SYMBOLS[bits] ?? "diamond";
  const marks = indices.map((index) => ({
    index, x: x(index), y: y(index), shape: shapeOf(rows[index].bits), colour: colourOf(rows[index].bits),
    hollow: effects.some((effect) => rows[index].source[effect] !== "measured"), pale: effects.some((effect) => partly(rows[index], effect)),
    say: said(rows[index]), label: rows.length <= FEW || named(index) ? rows[index].name : "", ...ends?.(index),
  }));
  const entries = widths.map((bits) => ({ text: known(bits) ? `${bits} bits` : "custom", shape: shapeOf(bits), colour: colourOf(bits) }));
  plots.push(chart(get(id), { marks, entries, ...more }, { hover: point, look, select }));
}

function select(indices) {
  if (indices === null) return deselect();
  selected.clear();
  indices.filter(passes).forEach((index) => selected.add(index));
  get("only").checked = selected.size > 0;
  show();
}

function deselect() {
  selected.clear();
  get("only").checked = false;
  show();
}

function dim(plot) {
  const bright = new Set(selected.size ? shown.filter((index) => selected.has(index)) : shown);
  plot.bright(bright.size === rows.length ? null : bright);
  plot.fit(get("zoom").checked && bright.size < rows.length ? bright : null);
}

// What the mouse or the focus is on, in the table and in both plots.
function point(index) {
  if (index === hovered || index === undefined) return;
  if (known(hovered)) trs[hovered].classList.remove("hovered");
  hovered = index;
  if (known(index)) trs[index].classList.add("hovered");
  plots.forEach((plot) => plot.hover(index));
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
}

// ---- one format

function look(index) {
  if (!known(index)) return;
  trs[looked].classList.remove("looked");
  looked = index;
  trs[index].classList.add("looked");
  reachable(trs[index]);
  plots.forEach((plot) => plot.ring(looked));
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

function detail() {
  const row = rows[looked];
  get("name").textContent = row.name;
  const facts = {
    rank: row.rank, bits: row.bits, family: row.family, "one scale per": row.granularity, profile: row.profile, binades: row.binades, gates: row.cost.gates, "fJ a multiply-accumulate": row.cost.femtojoules, "bytes a value": row.cost.bytes_per_value,
    ...Object.fromEntries(Object.keys(row.angle).filter((effect) => known(row.angle[effect])).map((effect) => [
      `angle of ${effect}`,
      `${row.angle[effect].toFixed(3)}° ${found(row, effect)}`
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
  profiles(row);
}

function profiles(row) {
  const series = row.parts.filter((part) => part.profile).map((part, number) => ({
    name: row.parts.length > 1 ? `${["activations", "errors"][number]}: ${part.name}` : part.name, values: part.profile, colour: number ? "other" : colourOf(row.bits),
  }));
  get("profile").hidden = !series.length;
  const axis = { x: { title: "binade, relative to the top exponent T" }, y: { title: "significant bits", zero: true, whole: true } };
  if (series.length) bars(get("profile"), series, axis, (_, place, bits) => `${bits} significant bits at T${place || ""}`);
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
  const several = [...groups.values()].filter((places) => places.length > 1);
  return several.map((places) => [Math.min(...places) - 0.42, Math.max(...places) + 0.42]); // a gap between two bands
}

// Where formats as good as float32 end; a line across the axis of the angle that orders the ranking.
const goodLine = () => (known(line) ? [{ y: line }] : []);

// What the axis has to show: every mark, but not the ends of intervals that nothing is known of.
function highest() {
  const of = (end) => rows.map((row) => row[end][by]).filter(known);
  return Math.min(Math.max(...of("high"), ...of("angle")), 1.5 * Math.max(...of("angle")));
}

const all = rows.map((_, index) => index);
const angle = (effect) => (index) => rows[index].angle[effect];
if ("E" in rows[0].angle && "A" in rows[0].angle) {
  const indices = all.filter((index) => angle("E")(index) > 0 && angle("A")(index) > 0);
  if (indices.length < rows.length) get("not-drawn").textContent = ` ${rows.length - indices.length} without two angles above 0 are not drawn.`;
  if (indices.length) drawn("effects", {
    indices, x: angle("A"), y: angle("E"), effects: ["E", "A"],
    axes: { x: { title: "angle of A, activations (degrees)", log: true }, y: { title: "angle of E, errors (degrees)", log: true } }, lines: by === "E" ? goodLine() : [],
  });
  else get("effects-card").hidden = true;
} else get("effects-card").hidden = true;
drawn("ranks", {
  indices: all.filter((index) => known(angle(by)(index))), x: (index) => index + 1, y: angle(by), effects: [by],
  ends: (index) => ({ low: rows[index].low[by], high: rows[index].high[by] }), top: highest(),
  axes: { x: { title: "place in the ranking", whole: true }, y: { title: `angle of ${by} (degrees)`, zero: true } }, bands: ties(), lines: goodLine(),
});
const costed = all.filter((index) => known(rows[index].gates) && known(angle(by)(index)));
if (costed.length) {
  const front = new Set();
  let least = Infinity;
  for (const index of [...costed].sort((a, b) => rows[a].gates - rows[b].gates || angle(by)(a) - angle(by)(b))) {
    if (angle(by)(index) < least) { front.add(index); least = angle(by)(index); }
  }
  drawn("gates", {
    indices: costed, x: (index) => rows[index].gates, y: angle(by), effects: [by], named: (index) => front.has(index),
    axes: { x: { title: "gates of a multiply-accumulate" }, y: { title: `angle of ${by} (degrees)`, log: true } }, lines: goodLine(),
  });
} else get("gates-card").hidden = true;
options("bits", rows.map((row) => row.bits));
options("family", rows.map((row) => row.family));
listen();
trs[0].classList.add("looked");
plots.forEach((plot) => plot.ring(looked));
detail();
new ResizeObserver(() => profiles(rows[looked])).observe(get("details"));
show();
document.documentElement.dataset.ready = "true";
