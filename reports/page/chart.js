"use strict";
// Plots in SVG that the style sheet colours, so that they follow from light to dark by themselves.

const get = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const REACH = 18; // pixels from a mark at which the mouse is on it
const SPACE = { left: 58, right: 14, top: 30, bottom: 46 };
const SHAPES = {
  circle: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z", square: "M-3.6,-3.6h7.2v7.2h-7.2Z",
  triangle: "M0,-4.6L4.6,3.6H-4.6Z", diamond: "M0,-5L5,0L0,5L-5,0Z",
};

function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== "") element.textContent = text;
  return element;
}

function cell(text, tag = "td") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

// ---- axes

// About so many round numbers from low to high; on a logarithmic axis 1, 2 and 5 of a decade, or decades alone.
function ticks([low, high], { log, whole }, about) {
  if (log && high - low < 0.7) return ticks([10 ** low, 10 ** high], {}, about); // less than a factor of five
  if (log) {
    const decades = [...Array(Math.ceil(high) - Math.floor(low) + 1).keys()].map((step) => step + Math.floor(low));
    const digits = high - low < 2.6 ? [1, 2, 5] : [1];
    return decades.flatMap((decade) => digits.map((digit) => Number(`${digit}e${decade}`)))
      .filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
  }
  const rough = (high - low) / about, size = 10 ** Math.floor(Math.log10(rough));
  let step = size * ([1, 2, 5, 10].find((digit) => digit * size >= rough) ?? 10);
  if (whole) step = Math.max(1, step);
  const count = Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1;
  return [...Array(Math.max(0, count)).keys()].map((number) => Number(((Math.ceil(low / step - 1e-9) + number) * step).toPrecision(12)));
}

// From what an axis shows to where it lies, between two pixels; a logarithm where it has one.
function scaleOf(values, axis, from, to) {
  const of = axis.log ? Math.log10 : (value) => value;
  const found = values.filter((value) => known(value) && (!axis.log || value > 0)).map(of);
  let [low, high] = [Math.min(...found), Math.max(...found)];
  const pad = 0.04 * (high - low) || (axis.log ? 0.1 : 0.5);
  [low, high] = [axis.zero ? 0 : low - pad, high + pad];
  const at = (value) => from + (of(value) - low) / (high - low) * (to - from);
  return { at, low, high, inside: (value) => of(value) >= low - 1e-9 && of(value) <= high + 1e-9 };
}

function drawAxes(into, [x, y], [xAxis, yAxis], { width, height }) {
  const bottom = height - SPACE.bottom;
  for (const value of xAxis.ticks ?? ticks([x.low, x.high], xAxis, width / 80)) {
    into.append(svg("path", { class: "grid", d: `M${x.at(value)},${SPACE.top}V${bottom}` }));
    into.append(svg("text", { x: x.at(value), y: bottom + 16, "text-anchor": "middle" }, value));
  }
  for (const value of ticks([y.low, y.high], yAxis, height / 60)) {
    into.append(svg("path", { class: "grid", d: `M${SPACE.left},${y.at(value)}H${width - SPACE.right}` }));
    into.append(svg("text", { x: SPACE.left - 6, y: y.at(value) + 4, "text-anchor": "end" }, value));
  }
  const middle = (SPACE.top + bottom) / 2;
  into.append(svg("text", { x: (SPACE.left + width - SPACE.right) / 2, y: height - 8, "text-anchor": "middle" }, xAxis.title));
  into.append(svg("text", { transform: `translate(13,${middle}) rotate(-90)`, "text-anchor": "middle" }, yAxis.title));
}

function legend(into, entries) {
  let left = SPACE.left;
  for (const { text, shape, colour } of entries) {
    into.append(svg("path", { class: "mark", d: SHAPES[shape], transform: `translate(${left + 5},14)`, style: `--colour: var(--${colour})` }));
    const name = into.appendChild(svg("text", { x: left + 14, y: 18 }, text));
    left += 30 + name.getComputedTextLength();
  }
}

const visible = (element) => element.clientWidth > SPACE.left + SPACE.right;

function started(element, label) {
  element.querySelector("svg")?.remove();
  const size = { width: element.clientWidth, height: element.clientHeight };
  return [element.appendChild(svg("svg", { ...size, viewBox: `0 0 ${size.width} ${size.height}`, role: "img", "aria-label": label })), size];
}

// ---- marks

// Names beside marks where no other name and no mark is; the mouse has the others.
function labels(into, placed, { width, height }) {
  const taken = placed.map(({ left, top }) => [left - 5, top - 5, left + 5, top + 5]);
  const free = ([a, b, c, d]) => a >= SPACE.left && c <= width && b >= SPACE.top - 8 && d <= height - SPACE.bottom
    && taken.every(([e, f, g, h]) => c <= e || a >= g || d <= f || b >= h);
  for (const { mark, left, top } of placed.filter((each) => each.mark.label)) {
    const text = into.appendChild(svg("text", { class: "label" }, mark.label));
    const length = text.getComputedTextLength();
    const corners = [[8, -5], [8, -12], [8, 2], [-8 - length, -5], [-length / 2, -18], [-length / 2, 8], [-8 - length, -14], [-8 - length, 3]];
    const box = corners.map(([across, down]) => [left + across, top + down, left + across + length, top + down + 11]).find(free);
    if (!box) { text.remove(); continue; }
    taken.push(box);
    text.setAttribute("x", box[0]);
    text.setAttribute("y", box[1] + 9);
  }
}

/* Marks, each with an index, x, y, shape, colour, hollow, pale, say (lines for the mouse), and maybe label, left, right, low,
   high (ends of its intervals); lines {x or y}; bands [from, to] of x; top: the end of the vertical axis. `heard` is
   told what the mouse is on, what is clicked and which marks a box holds. */
function chart(element, { axes: { x: xAxis, y: yAxis }, marks, entries = [], lines = [], bands = [], top = null }, heard) {
  const note = element.appendChild(document.createElement("div"));
  note.className = "said";
  let places = [], bright = null, ringed = null, fitted = null, drag = null, size, inside;

  function draw() {
    const shown = fitted?.size ? marks.filter((mark) => fitted.has(mark.index)) : marks;
    let into;
    [into, size] = started(element, `${yAxis.title} against ${xAxis.title}`);
    const ends = shown.flatMap((mark) => [mark.y, mark.low, mark.high]);
    const x = scaleOf(shown.flatMap((mark) => [mark.x, mark.left, mark.right]), xAxis, SPACE.left, size.width - SPACE.right);
    const y = scaleOf(ends.map((end) => (known(top) && end > top ? top : end)), yAxis, size.height - SPACE.bottom, SPACE.top);
    inside = (left, down) => left >= SPACE.left && left <= size.width && down >= 0 && down <= size.height - SPACE.bottom;
    for (const [from, to] of bands.filter((band) => band[1] > x.low && band[0] < x.high).map((band) => [Math.max(band[0], x.low), Math.min(band[1], x.high)])) {
      into.append(svg("rect", { class: "band", x: x.at(from), y: SPACE.top, width: x.at(to) - x.at(from), height: size.height - SPACE.bottom - SPACE.top }));
    }
    drawAxes(into, [x, y], [xAxis, yAxis], size);
    for (const line of lines.filter((each) => (known(each.x) ? x.inside(each.x) : y.inside(each.y)))) {
      const d = known(line.x) ? `M${x.at(line.x)},${SPACE.top}V${size.height - SPACE.bottom}` : `M${SPACE.left},${y.at(line.y)}H${size.width - SPACE.right}`;
      into.append(svg("path", { class: "line", d }));
    }
    const within = (value, scale) => Math.min(Math.max(value, Math.min(...scale)), Math.max(...scale));
    const across = (value) => within(x.at(value), [SPACE.left, size.width - SPACE.right]);
    const down = (value) => within(y.at(value), [SPACE.top, size.height - SPACE.bottom]);
    places = marks.filter((mark) => x.inside(mark.x) && y.inside(mark.y)).map((mark) => ({ mark, left: x.at(mark.x), top: y.at(mark.y) }));
    const style = (mark) => `--colour: var(--${mark.colour})`;
    for (const { mark, left, top: at } of places) {
      const bars = (known(mark.low) ? `M${left},${down(mark.low)}V${down(mark.high)}` : "") + (known(mark.left) ? `M${across(mark.left)},${at}H${across(mark.right)}` : "");
      if (bars) into.append(svg("path", { class: "whisker", d: bars, "data-index": mark.index, style: style(mark) }));
    }
    for (const { mark, left, top: at } of places) {
      into.append(svg("path", { class: mark.hollow ? "mark hollow" : mark.pale ? "mark pale" : "mark", d: SHAPES[mark.shape], transform: `translate(${left},${at})`, "data-index": mark.index, style: style(mark) }));
    }
    labels(into, places, size);
    legend(into, entries);
    into.append(svg("circle", { class: "ring", r: 9 }), svg("circle", { class: "pointed", r: 6 }), svg("rect", { class: "box" }));
    dim();
    circle("ring", ringed);
  }

  const dim = () => element.querySelectorAll("[data-index]").forEach((mark) => mark.classList.toggle("dim", bright !== null && !bright.has(Number(mark.dataset.index))));

  function circle(kind, index) {
    const found = places.find((place) => place.mark.index === index);
    const ring = element.querySelector(`.${kind}`);
    ring.style.display = found ? "inline" : "none";
    if (found) { ring.setAttribute("cx", found.left); ring.setAttribute("cy", found.top); }
    return found;
  }

  function hover(index) {
    const found = circle("pointed", index);
    note.style.display = found ? "block" : "none";
    if (!found) return;
    note.replaceChildren(...found.mark.say.map((line) => cell(line, "div")));
    note.style.left = `${Math.max(0, Math.min(found.left + 12, size.width - note.offsetWidth))}px`;
    note.style.top = `${found.top > size.height / 2 ? found.top - note.offsetHeight - 10 : found.top + 12}px`;
  }

  function near(event) {
    const box = element.getBoundingClientRect();
    const distance = (place) => Math.hypot(place.left - event.clientX + box.x, place.top - event.clientY + box.y);
    const able = places.filter(({ mark }) => bright === null || bright.has(mark.index));
    const best = able.reduce((one, other) => (one && distance(one) <= distance(other) ? one : other), null);
    return best && distance(best) <= REACH ? best.mark.index : null;
  }

  const spot = (event) => { const box = element.getBoundingClientRect(); return [event.clientX - box.x, event.clientY - box.y]; };
  const span = (from, to) => [0, 1].map((axis) => [Math.min(from[axis], to[axis]), Math.max(from[axis], to[axis])]);
  element.addEventListener("pointerdown", (event) => {
    // A finger scrolls the page.
    if (event.pointerType !== "touch" && event.button === 0 && heard.select && inside(...spot(event))) {
      drag = { from: spot(event), moved: false };
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
    }
  });
  element.addEventListener("pointermove", (event) => {
    if (drag) {
      const [[left, right], [high, low]] = span(drag.from, spot(event));
      drag.moved ||= right - left > 4 || low - high > 4;
      const box = element.querySelector(".box");
      box.style.display = drag.moved ? "inline" : "none";
      for (const [key, value] of Object.entries({ x: left, y: high, width: right - left, height: low - high })) box.setAttribute(key, value);
    } else if (event.pointerType !== "touch") heard.hover(near(event));
  });
  element.addEventListener("pointerup", (event) => {
    const ended = drag;
    drag = null;
    if (!ended?.moved) return;
    element.querySelector(".box").style.display = "none";
    const [[left, right], [high, low]] = span(ended.from, spot(event));
    const taken = places.filter((place) => place.left >= left && place.left <= right && place.top >= high && place.top <= low);
    element.dataset.dragged = "yes"; // the click that follows is none
    heard.select(taken.map(({ mark }) => mark.index));
  });
  element.addEventListener("pointerleave", () => heard.hover(null));
  element.addEventListener("click", (event) => {
    if (element.dataset.dragged) delete element.dataset.dragged;
    else heard.look(near(event));
  });
  element.addEventListener("dblclick", () => heard.select?.(null));
  new ResizeObserver(() => { if (visible(element) && (element.clientWidth !== size.width || element.clientHeight !== size.height)) draw(); }).observe(element);
  draw();
  return {
    hover,
    bright: (indices) => { bright = indices; dim(); },
    ring: (index) => { ringed = index; circle("ring", index); },
    fit: (indices) => { if (indices !== fitted) { fitted = indices; draw(); } },
  };
}

// Groups of bars: series {name, values, colour}, the same places for all, and what is said of one.
function bars(element, series, { x: xAxis, y: yAxis }, say) {
  if (!visible(element)) return;
  const [into, size] = started(element, `${yAxis.title} by ${xAxis.title}`);
  const count = Math.max(...series.map((each) => each.values.length));
  const every = count > 16 ? 4 : count > 8 ? 2 : 1;
  const x = { at: (value) => SPACE.left + (0.5 - value) / count * (size.width - SPACE.left - SPACE.right) };
  const y = scaleOf([0, ...series.flatMap((each) => each.values)], yAxis, size.height - SPACE.bottom, SPACE.top);
  const places = [...Array(count).keys()].filter((place) => place % every === 0).map((place) => -place);
  drawAxes(into, [x, y], [{ ...xAxis, ticks: places }, yAxis], size);
  const width = 0.8 * (size.width - SPACE.left - SPACE.right) / count / series.length;
  series.forEach((each, number) => each.values.forEach((value, place) => {
    const left = x.at(-place) + (number - series.length / 2) * width;
    const bar = svg("rect", { class: "bar", x: left, y: y.at(value), width, height: y.at(0) - y.at(value), style: `--colour: var(--${each.colour})` });
    bar.append(svg("title", {}, say(each, -place, value)));
    into.append(bar);
  }));
  if (series.length > 1) legend(into, series.map((each) => ({ text: each.name, shape: "square", colour: each.colour })));
}
