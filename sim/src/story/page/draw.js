"use strict";
// The picture: lanes over true time, on two canvases. Whatever is narrower than a pixel is counted, and the rarest
// kind in a pixel gives it its colour, so that nothing rare disappears.

const GUTTER = 176, AXIS = 26, ENTRIES = 20, ROW = 15, PAD = 6;
const FLIGHTS_MAX = 1200, CHAIN_MAX = 40;
const RARE_FIRST = ["violation", "fault", "lost", "process", "wakes", "fact", "done", "arrives", "does", "hears"];
const BACKGROUND = new Set(["runs", "sleeps", "away"]);
// In which order bars lie below the entries of their lane, and on how many rows each kind at most.
const ROWS = [["fault", 4], ["state", 1], ["sandbox", 1], ["frozen", 1], ["act", 1], ["session", 1], ["request", 5],
  ["lease", 6], ["belief", 5]];
const STATES = {
  SUSPENDED: "hears", PAUSED: "hears", RESUMING: "does", RUNNING: "good", SUSPENDING: "wakes", PAUSING: "wakes",
  CRASHED: "bad",
};

const view = {
  t0: record.raw.from, t1: Math.max(record.raw.until, record.raw.from + 1), scroll: 0,
  selected: null, // { entry } or { bar }
  hover: null, // where the pointer is, in true time
  pointed: null, // what it is on
};
const canvas = document.getElementById("lanes"), overview = document.getElementById("overview");
let paint = {};

// Rows of bars, laid out once: those that overlap lie below each other, as far as there is room.
const barRow = new Uint8Array(record.bars.count);
(() => {
  const perLane = record.lanes.map(() => new Map());
  for (let i = 0; i < record.bars.count; i++) {
    const span = record.spanOf(i);
    if (BACKGROUND.has(span)) continue;
    const kind = span === "frozen" ? "sandbox" : span;
    const lanes = perLane[record.bars.lane[i]];
    if (!lanes.has(kind)) lanes.set(kind, []);
    lanes.get(kind).push(i);
  }
  record.lanes.forEach((lane, number) => {
    let base = 0;
    lane.background = [];
    lane.bars = [];
    for (const [kind, most] of ROWS) {
      const bars = perLane[number].get(kind);
      if (!bars) continue;
      const free = [];
      for (const i of bars) {
        let row = free.findIndex((until) => until <= record.bars.from[i]);
        if (row < 0) row = free.length < most ? free.length : most - 1;
        free[row] = record.bars.until[i];
        barRow[i] = base + row;
        lane.bars.push(i);
      }
      base += free.length;
    }
    lane.height = ENTRIES + base * ROW + PAD;
  });
  for (let i = 0; i < record.bars.count; i++) {
    if (BACKGROUND.has(record.spanOf(i))) record.lanes[record.bars.lane[i]].background.push(i);
  }
})();

function shownLanes() {
  const actor = filter.actor && record.raw.actors[filter.actor - 1];
  return record.lanes.filter((lane) => lane.group !== "actor" || !actor || actor.endsWith("/" + lane.name));
}

// Where each lane is, from the top of the canvas; rows that are scrolled away are there, too.
function placeLanes() {
  let y = AXIS - view.scroll;
  const lanes = shownLanes();
  for (const lane of record.lanes) lane.y = null;
  for (const lane of lanes) {
    lane.y = y;
    y += lane.height;
  }
  view.total = y + view.scroll;
  return lanes;
}

const width = () => Math.max(1, paint.width - GUTTER);
const toX = (time) => GUTTER + ((time - view.t0) / (view.t1 - view.t0)) * width();
const toTime = (x) => view.t0 + ((x - GUTTER) / width()) * (view.t1 - view.t0);

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue("--" + name).trim();
  const names = ["page", "raised", "edge", "text", "faint", "grid", "accent", "bad", "good", "warn", ...record.raw.kinds];
  paint.color = Object.fromEntries(names.map((name) => [name, value(name)]));
  paint.color.violation = paint.color.bad;
  const light = value("light"), dim = value("dim");
  const hue = (number) => ((number - 1) * 137.508 + 200) % 360;
  paint.actor = [paint.color.faint, ...record.raw.actors.map((_, i) => `hsl(${hue(i + 1)} 62% ${light})`)];
  paint.dim = [paint.color.edge, ...record.raw.actors.map((_, i) => `hsl(${hue(i + 1)} 40% ${dim})`)];
  paint.hatch = null;
  paint.density = null;
}

function fitCanvas(of) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = of.getBoundingClientRect();
  if (of.width !== Math.round(width * ratio) || of.height !== Math.round(height * ratio)) {
    of.width = Math.round(width * ratio);
    of.height = Math.round(height * ratio);
  }
  const pen = of.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { pen, width, height };
}

// Diagonal lines, drawn as lines: a pattern would need an image.
function hatched(pen, x, y, w, h, color) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, w, h);
  pen.clip();
  pen.strokeStyle = color;
  pen.globalAlpha *= 0.55;
  pen.beginPath();
  for (let at = x - h - ((x - h) % 6); at < x + w; at += 6) {
    pen.moveTo(at, y + h);
    pen.lineTo(at + h, y);
  }
  pen.stroke();
  pen.restore();
}

function glyph(pen, kind, x, y, size) {
  pen.beginPath();
  if (kind === "hears") { pen.arc(x, y, size - 0.5, 0, 7); pen.stroke(); return; }
  if (kind === "does" || kind === "violation") pen.arc(x, y, size, 0, 7);
  else if (kind === "wakes") { pen.moveTo(x, y - size); pen.lineTo(x + size, y); pen.lineTo(x, y + size); pen.lineTo(x - size, y); pen.closePath(); pen.stroke(); return; }
  else if (kind === "fact") { pen.moveTo(x, y - size); pen.lineTo(x + size, y); pen.lineTo(x, y + size); pen.lineTo(x - size, y); pen.closePath(); }
  else if (kind === "arrives") { pen.moveTo(x - size, y - size); pen.lineTo(x + size, y); pen.lineTo(x - size, y + size); pen.closePath(); }
  else if (kind === "done") pen.rect(x - size + 0.5, y - size + 0.5, 2 * size - 1, 2 * size - 1);
  else if (kind === "process") pen.rect(x - 1, y - size - 2, 2.5, 2 * size + 4);
  else if (kind === "fault") { pen.moveTo(x, y - size - 1); pen.lineTo(x + size + 1, y + size); pen.lineTo(x - size - 1, y + size); pen.closePath(); }
  else { pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size); pen.moveTo(x + size, y - size); pen.lineTo(x - size, y + size); pen.stroke(); return; }
  pen.fill();
}

function draw() {
  const { pen, width: w, height: h } = fitCanvas(canvas);
  paint.width = w;
  paint.height = h;
  paint.spots = [];
  const lanes = placeLanes();
  const highest = Math.max(0, view.total - h);
  if (view.scroll > highest) { view.scroll = highest; placeLanes(); }
  pen.fillStyle = paint.color.page;
  pen.fillRect(0, 0, w, h);
  pen.font = "10.5px system-ui, 'DejaVu Sans', sans-serif";
  pen.textBaseline = "middle";
  const seen = lanes.filter((lane) => lane.y + lane.height > AXIS && lane.y < h);
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, AXIS, w - GUTTER, h - AXIS);
  pen.clip();
  seen.forEach((lane) => drawBackground(pen, lane, w));
  drawGrid(pen, w, h);
  seen.forEach((lane) => drawBars(pen, lane, w));
  drawFlights(pen);
  seen.forEach((lane) => drawEntries(pen, lane));
  drawChain(pen);
  drawMoments(pen, h);
  pen.restore();
  drawAxis(pen, w);
  drawGutter(pen, seen, h);
  drawOverview();
  window.storyDrawn = (window.storyDrawn || 0) + 1;
}

function drawBackground(pen, lane, w) {
  const { bars } = record;
  const top = lane.y, tall = lane.height - 1;
  if (["replica", "node", "worker"].includes(lane.group)) {
    // Where nothing says that it runs, it does not.
    let since = GUTTER;
    const gap = (until) => {
      if (until - since > 0.5) hatched(pen, since, top, until - since, tall, paint.color.edge);
    };
    for (const i of lane.background) {
      if (record.spanOf(i) !== "runs" || bars.until[i] < view.t0 || bars.from[i] > view.t1) continue;
      gap(toX(bars.from[i]));
      since = Math.max(since, Math.min(w, toX(bars.until[i])));
    }
    gap(w);
  }
  for (const i of lane.background) {
    const span = record.spanOf(i);
    if (span === "runs") continue;
    const x = Math.max(GUTTER - 2, toX(bars.from[i])), end = Math.min(w + 2, toX(bars.until[i]));
    if (end <= GUTTER || x >= w) continue;
    pen.fillStyle = span === "away" ? paint.color.bad : paint.color.warn;
    pen.globalAlpha = 0.16;
    pen.fillRect(x, top, Math.max(1, end - x), tall);
    pen.globalAlpha = 1;
    label(pen, record.labelOf(bars, i), x + 4, top + tall - 7, end - x - 8, pen.fillStyle);
  }
  pen.fillStyle = paint.color.edge;
  pen.fillRect(0, top + tall, w, lane.group === "worker" || lane.group === "actor" ? 0.5 : 1);
}

function label(pen, text, x, y, room, color) {
  const from = Math.max(x, GUTTER + 4);
  room -= from - x;
  if (room < 22) return;
  pen.save();
  pen.beginPath();
  pen.rect(from, y - 8, room, 16);
  pen.clip();
  pen.fillStyle = color;
  pen.fillText(text, from, y);
  pen.restore();
}

function drawBars(pen, lane, w) {
  const { bars } = record;
  const lastX = [];
  for (const i of lane.bars) {
    if (bars.until[i] < view.t0 || bars.from[i] > view.t1) continue;
    const span = record.spanOf(i), row = barRow[i];
    const x = Math.max(GUTTER - 3, toX(bars.from[i])), end = Math.min(w + 3, toX(bars.until[i]));
    // Of bars that share a pixel one is drawn.
    if (end - x < 1 && lastX[row] !== undefined && x - lastX[row] < 1) continue;
    lastX[row] = x;
    const wide = Math.max(1.5, end - x), y = lane.y + ENTRIES - 1 + row * ROW;
    const isMatch = filter.barMatches[i], number = bars.actor[i];
    pen.globalAlpha = isMatch ? 1 : 0.14;
    let color = paint.actor[number], ink = paint.color.page;
    if (span === "state") color = paint.color[STATES[record.labelOf(bars, i)] || "faint"];
    if (span === "fault") color = paint.color.fault;
    if (span === "session") color = paint.color.faint;
    pen.fillStyle = pen.strokeStyle = color;
    if (wide < 3 && !Number.isFinite(bars.covered[i])) {
      pen.fillRect(x, y + 1, wide, ROW - 3);
    } else if (span === "belief" || span === "session" || span === "request") {
      const safe = Math.min(end, toX(bars.covered[i]));
      pen.save();
      pen.globalAlpha *= 0.28;
      pen.fillRect(x, y + 1, wide, ROW - 4);
      pen.restore();
      pen.strokeRect(x + 0.5, y + 1.5, Math.max(1, wide - 1), ROW - 5);
      if (safe < end) {
        pen.save();
        pen.lineWidth = 2;
        hatched(pen, safe, y, end - safe, ROW - 2, paint.color.bad);
        pen.restore();
      }
      ink = paint.color.text;
    } else if (span === "state") {
      const isQuiet = ["SUSPENDED", "PAUSED"].includes(record.labelOf(bars, i));
      pen.globalAlpha *= isQuiet ? 0.25 : 0.75;
      pen.fillRect(x, y + 1, wide, ROW - 3);
      if (isQuiet) ink = paint.color.text;
    } else if (span === "frozen") {
      pen.globalAlpha *= 0.3;
      pen.fillRect(x, y + 1, wide, ROW - 3);
      pen.globalAlpha = isMatch ? 1 : 0.14;
      hatched(pen, x, y + 1, wide, ROW - 3, paint.color.text);
      ink = paint.color.text;
    } else {
      pen.fillRect(x, y + 1, wide, ROW - 3);
    }
    pen.globalAlpha = isMatch ? 1 : 0.3;
    if (wide > 26) label(pen, barText(i), x + 5, y + ROW / 2, wide - 9, ink);
    if (view.selected?.bar === i) {
      pen.globalAlpha = 1;
      pen.strokeStyle = paint.color.text;
      pen.lineWidth = 2;
      pen.strokeRect(x, y, wide, ROW - 1);
      pen.lineWidth = 1;
    }
    paint.spots.push({ bar: i, x, y, right: x + wide, bottom: y + ROW - 1 });
  }
  pen.globalAlpha = 1;
}

function barText(i) {
  const span = record.spanOf(i), text = record.labelOf(record.bars, i);
  const isActors = record.lanes[record.bars.lane[i]].group === "actor";
  const actor = record.actorOf(record.bars, i).split("/").at(-1);
  if (span === "belief") return isActors ? `${text} believes` : actor;
  if (span === "lease") return isActors ? record.detailOf(record.bars, i) : actor;
  if (span === "request") return `${text} ${actor}`;
  return text;
}

function isDrawn(i) {
  return !filter.isHidden[record.kind[i]];
}

function drawEntries(pen, lane) {
  const first = firstAt(lane.entries, view.t0), last = firstAt(lane.entries, view.t1 + 1);
  const y = lane.y + ENTRIES / 2;
  pen.lineWidth = 1.2;
  if (last - first > width() / 7) return drawDensity(pen, lane, first, last, y);
  let before = -1, shift = 0;
  for (let n = first; n < last; n++) {
    const i = lane.entries[n];
    if (!isDrawn(i)) continue;
    // What happens at one moment is set side by side.
    shift = record.at[i] === before ? Math.min(shift + 8, 96) : 0;
    before = record.at[i];
    const kind = record.kindOf(i), x = toX(record.at[i]) + (kind === "violation" ? 0 : shift);
    const from = record.cause[i];
    pen.fillStyle = pen.strokeStyle = paint.color[kind];
    pen.globalAlpha = filter.matches[i] ? 1 : 0.15;
    if ((kind === "done" || kind === "lost") && from >= 0 && record.lane[from] === lane.number) {
      const begin = Math.max(GUTTER - 2, toX(record.at[from]));
      pen.save();
      pen.globalAlpha *= 0.35;
      pen.fillRect(begin, y - 1.5, x - begin, 3);
      pen.restore();
    }
    glyph(pen, kind, x, y, kind === "violation" ? 6 : 3.5);
    if (view.selected?.entry === i) ring(pen, x, y);
    paint.spots.push({ entry: i, x: x - 5, y: y - 8, right: x + 5, bottom: y + 8 });
  }
  pen.globalAlpha = 1;
  if (last - first < 40) drawWords(pen, lane, first, last, y);
}

function ring(pen, x, y) {
  pen.save();
  pen.globalAlpha = 1;
  pen.strokeStyle = paint.color.text;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(x, y, 7.5, 0, 7);
  pen.stroke();
  pen.restore();
}

// Where there is room, entries say what they are.
function drawWords(pen, lane, first, last, y) {
  const spots = paint.spots.filter((spot) => spot.entry !== undefined && record.lane[spot.entry] === lane.number);
  spots.forEach((spot, n) => {
    const room = (spots[n + 1]?.x ?? paint.width) - spot.right - 6;
    pen.globalAlpha = filter.matches[spot.entry] ? 0.9 : 0.2;
    if (room > 34) label(pen, record.labelOf(record, spot.entry), spot.right + 2, y, room, paint.color.faint);
  });
  pen.globalAlpha = 1;
}

function drawDensity(pen, lane, first, last, y) {
  const wide = 2, columns = Math.ceil(width() / wide) + 1;
  const counts = new Uint32Array(columns), likes = new Uint32Array(columns), rarest = new Uint8Array(columns).fill(99);
  const rank = record.raw.kinds.map((kind) => RARE_FIRST.indexOf(kind));
  const scale = width() / (view.t1 - view.t0) / wide;
  // The one loop that goes over everything in view.
  const { at, kind } = record, { entries } = lane, { matches, isHidden } = filter, { t0 } = view;
  for (let n = first; n < last; n++) {
    const i = entries[n], k = kind[i];
    if (isHidden[k]) continue;
    const column = ((at[i] - t0) * scale) | 0;
    counts[column]++;
    if (!matches[i]) continue;
    likes[column]++;
    if (rank[k] < rarest[column]) rarest[column] = rank[k];
  }
  for (let column = 0; column < columns; column++) {
    if (!counts[column]) continue;
    const tall = (count) => Math.min(ENTRIES - 3, 3 + 3.2 * Math.log2(1 + count));
    const x = GUTTER + column * wide;
    if (likes[column] < counts[column]) {
      pen.fillStyle = paint.color.edge;
      pen.fillRect(x, y - tall(counts[column]) / 2, wide, tall(counts[column]));
    }
    if (!likes[column]) continue;
    pen.fillStyle = paint.color[RARE_FIRST[rarest[column]]];
    pen.globalAlpha = 0.85;
    pen.fillRect(x, y - tall(likes[column]) / 2, wide, tall(likes[column]));
    pen.globalAlpha = 1;
  }
}

// Effects in flight: from where and when something was done to where and when it came.
function drawFlights(pen) {
  const from = lowerBound(view.t0);
  const to = Math.min(record.count, lowerBound(view.t1) + FLIGHTS_MAX);
  const flights = [];
  for (let i = from; i < to && flights.length <= FLIGHTS_MAX; i++) {
    const cause = record.cause[i];
    if (cause < 0 || record.lane[cause] === record.lane[i] || record.at[cause] > view.t1 || !isDrawn(i)) continue;
    if (filter.isOn && !filter.matches[i]) continue;
    flights.push(i);
  }
  if (flights.length > FLIGHTS_MAX) return;
  const strength = Math.max(0.1, 0.6 - flights.length / 600);
  // What comes about at once, elsewhere, takes no time: a line straight down, of which few are enough.
  const isCrowded = flights.length > 200;
  for (const i of flights) if (!isCrowded || record.at[record.cause[i]] < record.at[i]) flight(pen, i, paint.color[record.kindOf(i)], strength, 1);
}

function flight(pen, i, color, alpha, thick) {
  const cause = record.cause[i], from = record.lanes[record.lane[cause]], to = record.lanes[record.lane[i]];
  if (from.y === null || to.y === null) return;
  const x0 = toX(record.at[cause]), x1 = toX(record.at[i]);
  const y0 = from.y + ENTRIES / 2, y1 = to.y + ENTRIES / 2;
  pen.globalAlpha = alpha;
  pen.strokeStyle = pen.fillStyle = color;
  pen.lineWidth = thick;
  pen.setLineDash(record.kindOf(i) === "lost" ? [3, 3] : []);
  pen.beginPath();
  pen.moveTo(x0, y0);
  const bend = Math.min(40, Math.abs(x1 - x0) / 2);
  pen.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
  pen.lineWidth = 1;
}

// What the selected entry follows from, and what follows from it.
function drawChain(pen) {
  const entry = view.selected?.entry;
  if (entry === undefined) return;
  for (const i of causesOf(entry).slice(0, CHAIN_MAX)) {
    if (record.cause[i] >= 0) flight(pen, i, paint.color.accent, 0.95, 2);
  }
  for (const i of record.consequences(entry).subarray(0, 200)) flight(pen, i, paint.color.good, 0.95, 2);
  const lane = record.lanes[record.lane[entry]];
  if (lane.y !== null && !paint.spots.some((spot) => spot.entry === entry)) ring(pen, toX(record.at[entry]), lane.y + ENTRIES / 2);
}

// The entry, and what it follows from, back to what began it.
function causesOf(entry) {
  const chain = [];
  for (let i = entry; i >= 0 && chain.length < 200; i = record.cause[i]) chain.push(i);
  return chain;
}

function lowerBound(time) {
  let low = 0, high = record.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (record.at[middle] < time) low = middle + 1; else high = middle;
  }
  return low;
}

// Moments that concern everybody.
function drawMoments(pen, h) {
  const line = (time, color, wide, dash) => {
    const x = toX(time);
    pen.strokeStyle = color;
    pen.lineWidth = wide;
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(x, AXIS);
    pen.lineTo(x, h);
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = 1;
  };
  const { violation, calm } = record.raw;
  if (calm !== null) line(calm, paint.color.good, 1, [6, 4]);
  if (violation) line(violation.at, paint.color.bad, 2, []);
  if (view.hover !== null) line(view.hover, paint.color.faint, 1, [2, 3]);
}

function ticks() {
  const span = view.t1 - view.t0, rough = span / Math.max(2, width() / 110);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough));
  const digits = Math.min(6, Math.max(0, Math.ceil(6 - Math.log10(step) - 1e-9)));
  const all = [];
  for (let at = Math.ceil(view.t0 / step) * step; at <= view.t1; at += step) all.push(at);
  return { all, digits };
}

function drawGrid(pen, w, h) {
  pen.strokeStyle = paint.color.grid;
  pen.beginPath();
  for (const at of ticks().all) {
    const x = Math.round(toX(at)) + 0.5;
    pen.moveTo(x, AXIS);
    pen.lineTo(x, h);
  }
  pen.stroke();
}

function drawAxis(pen, w) {
  pen.fillStyle = paint.color.raised;
  pen.fillRect(0, 0, w, AXIS);
  pen.fillStyle = paint.color.edge;
  pen.fillRect(0, AXIS - 1, w, 1);
  const { all, digits } = ticks();
  pen.fillStyle = paint.color.faint;
  pen.textAlign = "center";
  for (const at of all) {
    const x = toX(at);
    if (x > GUTTER + 24 && x < w - 20) pen.fillText(seconds(at, digits) + " s", x, AXIS / 2);
  }
  const flag = (time, text, color) => {
    const x = toX(time), room = pen.measureText(text).width + 12;
    if (x < GUTTER || x > w) return;
    const left = Math.min(Math.max(GUTTER, x - room / 2), w - room);
    pen.fillStyle = color;
    pen.beginPath();
    pen.roundRect(left, 3, room, AXIS - 7, 4);
    pen.fill();
    pen.fillStyle = paint.color.page;
    pen.fillText(text, left + room / 2, AXIS / 2);
  };
  const { violation, calm } = record.raw;
  if (view.hover !== null) flag(view.hover, seconds(view.hover) + " s", paint.color.faint);
  if (calm !== null) flag(calm, "calm", paint.color.good);
  if (violation) flag(violation.at, `${violation.invariant} violated`, paint.color.bad);
  pen.textAlign = "left";
}

function drawGutter(pen, lanes, h) {
  const now = view.hover ?? (view.selected?.entry !== undefined ? record.at[view.selected.entry] : view.t1);
  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, GUTTER, h - AXIS);
  pen.clip();
  pen.fillStyle = paint.color.page;
  pen.fillRect(0, AXIS, GUTTER - 1, h - AXIS);
  for (const lane of lanes) {
    const isPart = lane.group === "worker";
    const number = record.raw.actors.findIndex((actor) => lane.group === "actor" && actor.endsWith("/" + lane.name)) + 1;
    if (number) {
      pen.fillStyle = paint.actor[number];
      pen.fillRect(0, lane.y + 3, 4, lane.height - 7);
    }
    pen.fillStyle = isPart ? paint.color.faint : paint.color.text;
    pen.font = (isPart ? "" : "600 ") + "12px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillText(lane.name, isPart ? 24 : 12, lane.y + ENTRIES / 2);
    const shown = isPart ? null : shows(lane, Math.round(now));
    pen.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
    pen.fillStyle = paint.color.faint;
    if (shown !== null) {
      // Below the name, where the lane has room for it; beside it otherwise.
      const clock = seconds(shown, 3) + " s" + (lane.gain ? ` ${lane.gain > 0 ? "+" : "−"}${Math.abs(lane.gain)} ppm` : "");
      if (lane.height > 34) pen.fillText(clock, 12, lane.y + ENTRIES + 6);
      else pen.fillText(seconds(shown, 3), 84, lane.y + ENTRIES / 2);
    }
    pen.fillStyle = paint.color.edge;
    pen.fillRect(0, lane.y + lane.height - 1, GUTTER, 1);
  }
  pen.fillStyle = paint.color.edge;
  pen.fillRect(GUTTER - 1, AXIS, 1, h - AXIS);
  pen.restore();
  pen.font = "10.5px system-ui, 'DejaVu Sans', sans-serif";
  pen.fillStyle = paint.color.faint;
  pen.fillText("true time →", 12, AXIS / 2);
}

function drawOverview() {
  const { pen, width: w, height: h } = fitCanvas(overview);
  const { from, until, violation, calm } = record.raw;
  const x = (time) => GUTTER + ((time - from) / Math.max(1, until - from)) * (w - GUTTER);
  pen.fillStyle = paint.color.page;
  pen.fillRect(0, 0, w, h);
  if (!paint.density || paint.density.width !== w) paint.density = densityOf(w);
  const { all, likes } = paint.density;
  const most = Math.max(1, ...all);
  const columns = (counts, color) => {
    pen.fillStyle = color;
    pen.beginPath();
    counts.forEach((count, column) => {
      const tall = Math.sqrt(count / most) * (h - 12);
      if (count) pen.rect(GUTTER + column * 2, h - 8 - tall, 2, tall);
    });
    pen.fill();
  };
  columns(all, paint.color.edge);
  columns(likes, paint.color.accent);
  const { bars } = record;
  pen.fillStyle = paint.color.fault;
  for (let i = 0; i < bars.count; i++) {
    if (record.spanOf(i) === "fault") pen.fillRect(x(bars.from[i]), h - 6, Math.max(2, x(Math.min(until, bars.until[i])) - x(bars.from[i])), 4);
  }
  if (calm !== null) { pen.fillStyle = paint.color.good; pen.fillRect(x(calm), 0, 1, h); }
  if (violation) { pen.fillStyle = paint.color.bad; pen.fillRect(x(violation.at) - 1, 0, 2, h); }
  const left = x(view.t0), right = Math.max(left + 3, x(view.t1));
  pen.fillStyle = paint.color.page;
  pen.globalAlpha = 0.55;
  pen.fillRect(GUTTER, 0, left - GUTTER, h);
  pen.fillRect(right, 0, w - right, h);
  pen.globalAlpha = 1;
  pen.strokeStyle = paint.color.accent;
  pen.strokeRect(left + 0.5, 0.5, Math.max(2, right - left - 1), h - 1);
  pen.font = "10.5px system-ui, 'DejaVu Sans', sans-serif";
  pen.textBaseline = "middle";
  pen.fillStyle = paint.color.faint;
  pen.fillText("all of it", 12, h / 2 - 6);
  pen.fillText(`${seconds(from, 0)} to ${seconds(until, 0)} s`, 12, h / 2 + 8);
}

function densityOf(w) {
  const columns = Math.max(1, Math.ceil((w - GUTTER) / 2) + 1);
  const all = new Uint32Array(columns), likes = new Uint32Array(columns);
  const { from, until } = record.raw;
  const scale = (columns - 1) / Math.max(1, until - from);
  for (let i = 0; i < record.count; i++) {
    const column = ((record.at[i] - from) * scale) | 0;
    all[column]++;
    if (filter.matches[i]) likes[column]++;
  }
  return { width: w, all, likes };
}
