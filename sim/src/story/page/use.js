"use strict";
// What one can do with the picture: move, zoom, search, choose, and follow causes.

const element = (id) => document.getElementById(id);
const { raw } = record;

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

let isDue = false;
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
  });
}

// Time

function show(t0, t1) {
  const least = 20, most = Math.max(1, raw.until - raw.from) * 1.04;
  let span = Math.min(Math.max(t1 - t0, least), most);
  const middle = (t0 + t1) / 2, slack = (raw.until - raw.from) * 0.02;
  t0 = Math.min(Math.max(middle - span / 2, raw.from - slack), raw.until + slack - span);
  view.t0 = t0;
  view.t1 = t0 + span;
  remember();
  redraw();
}

function zoom(factor, around = (view.t0 + view.t1) / 2) {
  show(around - (around - view.t0) * factor, around + (view.t1 - around) * factor);
}

function move(part) {
  const by = (view.t1 - view.t0) * part;
  show(view.t0 + by, view.t1 + by);
}

function scroll(by) {
  view.scroll = Math.max(0, Math.min(view.scroll + by, Math.max(0, view.total - paint.height)));
  remember();
  redraw();
}

const fit = () => show(raw.from - (raw.until - raw.from) * 0.01, raw.until + (raw.until - raw.from) * 0.01);

// Selection

function bringIntoView(time, lane, span = view.t1 - view.t0) {
  const edge = span * 0.1;
  if (time < view.t0 + edge || time > view.t1 - edge || span !== view.t1 - view.t0) show(time - span / 2, time + span / 2);
  placeLanes();
  if (lane.y !== null && (lane.y < AXIS || lane.y + lane.height > paint.height)) {
    scroll(lane.y + lane.height / 2 - (paint.height + AXIS) / 2);
  }
}

function select(entry, span) {
  view.selected = { entry };
  bringIntoView(record.at[entry], record.lanes[record.lane[entry]], span);
  describe();
  remember();
  redraw();
}

function selectBar(bar) {
  view.selected = { bar };
  describe();
  remember();
  redraw();
}

function unselect() {
  view.selected = null;
  describe();
  remember();
  redraw();
}

function goToViolation() {
  const { violation } = raw;
  if (!violation) return;
  const around = 2e6;
  if (violation.entry === null) return show(violation.at - around, violation.at + around);
  show(violation.at - around, violation.at + around / 2);
  select(violation.entry);
}

// From one entry of its lane to another; from one match to another.
function step(by) {
  const now = view.selected?.entry;
  if (now === undefined) return stepMatch(by);
  const { entries } = record.lanes[record.lane[now]];
  let n = entries.indexOf(now) + by;
  while (n >= 0 && n < entries.length && !filter.matches[entries[n]]) n += by;
  if (n >= 0 && n < entries.length) select(entries[n]);
}

function stepMatch(by) {
  const hits = filter.isOn ? filter.hits : null;
  const many = hits ? hits.length : record.count;
  if (!many) return;
  const at = (n) => (hits ? hits[n] : n);
  let now = view.selected?.entry ?? (by > 0 ? lowerBound(view.t0) - 1 : lowerBound(view.t1));
  let low = 0, high = many;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(middle) <= now) low = middle + 1; else high = middle;
  }
  const next = by > 0 ? low : low - 1 - (low > 0 && at(low - 1) === now ? 1 : 0);
  if (next >= 0 && next < many) select(at(next));
}

// Details

function link(entry, note) {
  const item = make("li"), button = make("button", undefined, { type: "button" });
  const dot = make("i");
  dot.style.background = paint.color[record.kindOf(entry)];
  button.append(dot, record.labelOf(record, entry), " ");
  button.append(make("small", `${record.lanes[record.lane[entry]].name} · ${note}`));
  button.addEventListener("click", () => select(entry));
  item.append(button);
  return item;
}

function list(title, entries, note, most = 60) {
  if (!entries.length) return [];
  const ol = make("ol");
  for (const entry of entries.slice(0, most)) ol.append(link(entry, note(entry)));
  const more = entries.length - most;
  const parts = [make("h3", `${title} (${entries.length})`), ol];
  if (more > 0) parts.push(make("small", `and ${more} more`));
  return parts;
}

function describe() {
  const aside = element("details");
  aside.replaceChildren();
  const { selected } = view;
  if (!selected) return;
  const isBar = selected.bar !== undefined, i = isBar ? selected.bar : selected.entry;
  const of = isBar ? record.bars : record;
  const lane = record.lanes[of.lane[i]];
  const close = make("button", "×", { type: "button", class: "close", "aria-label": "Nothing selected" });
  close.addEventListener("click", unselect);
  const kind = isBar ? record.spanOf(i) : record.kindOf(i);
  aside.append(close, make("span", `${kind} · ${lane.name}`, { class: "badge" }));
  aside.append(make("h2", isBar ? barText(i) : record.labelOf(of, i)));
  const facts = make("dl");
  const fact = (name, value) => {
    if (value) facts.append(make("dt", name), typeof value === "string" ? make("dd", value) : value);
  };
  const choice = (name, value, choose) => {
    if (!value) return;
    const dd = make("dd"), button = make("button", value, { type: "button", class: "link", title: "Only this" });
    button.addEventListener("click", choose);
    dd.append(button);
    fact(name, dd);
  };
  const clock = (time) => {
    const shown = shows(lane, time);
    return shown === null ? "" : `${seconds(shown)} s`;
  };
  if (isBar) {
    const until = of.until[i], ends = Number.isFinite(until);
    fact("from", `${seconds(of.from[i])} s`);
    fact("until", ends ? `${seconds(until)} s` : "not ended");
    if (ends) fact("lasts", `${seconds(until - of.from[i])} s`);
    fact("own clock", clock(of.from[i]) && `${clock(of.from[i])}${ends ? " to " + clock(until) : ""}`);
    if (Number.isFinite(of.covered[i])) fact("covered until", `${seconds(of.covered[i])} s, by the settings`);
  } else {
    fact("true time", `${seconds(record.at[i])} s`);
    fact("own clock", clock(record.at[i]));
    const cause = record.cause[i];
    if (cause >= 0 && record.at[cause] !== record.at[i]) fact("on its way", `${seconds(record.at[i] - record.at[cause])} s`);
  }
  choice("actor", record.actorOf(of, i), () => choose("actor", of.actor[i]));
  choice("worker", record.workerOf(of, i), () => choose("worker", of.worker[i]));
  choice("operation", record.opOf(of, i), () => choose("op", of.op[i]));
  fact("fence", record.fenceOf(of, i));
  if (!isBar) fact("entry", String(raw.first + i));
  aside.append(facts);
  if (!isBar && raw.violation?.entry === i) aside.append(make("h3", "The oracle says"));
  else if (record.detailOf(of, i)) aside.append(make("h3", "All of it"));
  if (record.detailOf(of, i)) aside.append(make("pre", record.detailOf(of, i)));
  const ago = (entry) => (isBar ? `${seconds(record.at[entry])} s` : `${seconds(record.at[i] - record.at[entry])} s before`);
  const later = (entry) => `${seconds(record.at[entry] - record.at[i])} s later`;
  if (isBar) {
    if (of.cause[i] >= 0) aside.append(...list("Began with", [of.cause[i]], ago));
  } else {
    const causes = causesOf(i).slice(1);
    aside.append(...list("Follows from", causes, ago, 20));
    if (record.cause[causes.at(-1) ?? i] === -2) aside.append(make("small", "what that follows from is before this record"));
    aside.append(...list("What follows", [...record.consequences(i)], later));
  }
  element("where").setAttribute("aria-live", "polite");
}

// Filters

function choose(which, number) {
  filter[which] = filter[which] === number ? 0 : number;
  filtered();
}

function filtered() {
  filter.apply();
  element("search").value = filter.text;
  element("actor").value = String(filter.actor);
  element("worker").value = String(filter.worker);
  element("op").value = filter.op ? raw.ops[filter.op - 1] : "";
  element("hits").textContent = filter.isOn ? `${filter.hits.length.toLocaleString("en")} of ${record.count.toLocaleString("en")}` : "";
  paint.density = null;
  placeLanes();
  view.scroll = Math.max(0, Math.min(view.scroll, view.total - paint.height));
  remember();
  redraw();
}

// The address

let isRemembered = 0;
function remember() {
  clearTimeout(isRemembered);
  isRemembered = setTimeout(() => history.replaceState(null, "", "#" + address()), 120);
}

function address() {
  const at = new URLSearchParams();
  at.set("t", seconds((view.t0 + view.t1) / 2));
  at.set("w", seconds(view.t1 - view.t0));
  if (view.scroll) at.set("y", String(Math.round(view.scroll)));
  if (view.selected?.entry !== undefined) at.set("e", String(raw.first + view.selected.entry));
  if (view.selected?.bar !== undefined) at.set("b", String(view.selected.bar));
  if (filter.text) at.set("q", filter.text);
  for (const which of ["actor", "worker", "op"]) {
    if (filter[which]) at.set(which, raw[which + "s"][filter[which] - 1]);
  }
  if (isThemeChosen) at.set("theme", document.documentElement.dataset.theme);
  return at.toString();
}

function goTo(fragment) {
  const at = new URLSearchParams(fragment.replace(/^#/, ""));
  if (["dark", "light"].includes(at.get("theme"))) theme(at.get("theme"));
  filter.text = at.get("q") ?? "";
  for (const which of ["actor", "worker", "op"]) filter[which] = raw[which + "s"].indexOf(at.get(which)) + 1;
  const entry = Number(at.get("e") ?? NaN) - raw.first, bar = Number(at.get("b") ?? NaN);
  if (entry >= 0 && entry < record.count) view.selected = { entry };
  else if (bar >= 0 && bar < record.bars.count) view.selected = { bar };
  const time = Number(at.get("t") ?? NaN) * 1e6, span = Number(at.get("w") ?? NaN) * 1e6;
  if (Number.isFinite(time) && span > 0) show(time - span / 2, time + span / 2);
  else if (view.selected?.entry !== undefined) bringIntoView(record.at[entry], record.lanes[record.lane[entry]], 4e6);
  view.scroll = Number(at.get("y") ?? 0) || view.scroll;
  filtered();
  describe();
}

// The pointer

function spotAt(x, y) {
  if (x < GUTTER || y < AXIS) return null;
  let best = null;
  for (const spot of paint.spots) {
    if (x < spot.x - 2 || x > spot.right + 2 || y < spot.y || y > spot.bottom) continue;
    if (spot.bar !== undefined && best?.entry !== undefined) continue;
    best = spot;
  }
  if (best) return best;
  // Where entries are only counted, the nearest of the lane.
  const lane = record.lanes.find((lane) => lane.y !== null && y >= lane.y && y < lane.y + ENTRIES);
  if (!lane) return null;
  const n = firstAt(lane.entries, toTime(x - 3)), entry = lane.entries[n];
  return entry !== undefined && toX(record.at[entry]) <= x + 3 ? { entry } : null;
}

function position(event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function tip(spot, event) {
  const box = element("tip");
  box.hidden = !spot;
  if (!spot) return;
  const isBar = spot.bar !== undefined, of = isBar ? record.bars : record, i = isBar ? spot.bar : spot.entry;
  box.replaceChildren(make("b", isBar ? barText(i) : record.labelOf(of, i)));
  const parts = [
    isBar ? record.spanOf(i) : record.kindOf(i), `${seconds(isBar ? of.from[i] : record.at[i])} s`,
    record.actorOf(of, i), record.workerOf(of, i), record.fenceOf(of, i) && `fence ${record.fenceOf(of, i)}`,
  ];
  box.append(make("small", parts.filter(Boolean).join(" · ")));
  const { width, height } = box.getBoundingClientRect();
  box.style.left = Math.min(event.clientX + 14, innerWidth - width - 8) + "px";
  box.style.top = Math.min(event.clientY + 14, innerHeight - height - 8) + "px";
}

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  drag = { ...position(event), t0: view.t0, t1: view.t1, scroll: view.scroll, isMoved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const { x, y } = position(event);
  view.hover = x >= GUTTER ? toTime(x) : null;
  if (drag) {
    drag.isMoved ||= Math.hypot(x - drag.x, y - drag.y) > 3;
    if (drag.isMoved) {
      canvas.classList.add("dragging");
      const by = ((drag.x - x) / width()) * (drag.t1 - drag.t0);
      show(drag.t0 + by, drag.t1 + by);
      view.scroll = drag.scroll;
      scroll(drag.y - y);
    }
  }
  const spot = drag?.isMoved ? null : spotAt(x, y);
  canvas.classList.toggle("pointing", Boolean(spot));
  tip(spot, event);
  element("where").textContent = view.hover === null ? "" : `${seconds(view.hover)} s`;
  redraw();
});
canvas.addEventListener("pointerup", (event) => {
  canvas.classList.remove("dragging");
  const { x, y } = position(event), isClick = drag && !drag.isMoved;
  drag = null;
  if (!isClick) return;
  const spot = spotAt(x, y);
  if (!spot) unselect();
  else if (spot.entry !== undefined) select(spot.entry);
  else selectBar(spot.bar);
});
canvas.addEventListener("pointerleave", () => {
  view.hover = null;
  tip(null);
  redraw();
});
canvas.addEventListener("dblclick", (event) => zoom(0.25, toTime(position(event).x)));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const scale = event.deltaMode === 1 ? 16 : 1;
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY * scale * 0.002), toTime(position(event).x));
  else if (event.shiftKey) move(((event.deltaY || event.deltaX) * scale) / width());
  else {
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move((event.deltaX * scale) / width());
    else scroll(event.deltaY * scale);
  }
}, { passive: false });

const overviewTime = (event) => {
  const box = overview.getBoundingClientRect();
  return raw.from + ((event.clientX - box.left - GUTTER) / Math.max(1, box.width - GUTTER)) * (raw.until - raw.from);
};
overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  const span = view.t1 - view.t0, time = overviewTime(event);
  show(time - span / 2, time + span / 2);
});
overview.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  const span = view.t1 - view.t0, time = overviewTime(event);
  show(time - span / 2, time + span / 2);
});
overview.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(event.deltaY * 0.002), overviewTime(event));
}, { passive: false });

// The keyboard

function clear() {
  Object.assign(filter, { text: "", actor: 0, worker: 0, op: 0 });
  filtered();
}

function escape() {
  if (view.selected) unselect();
  else clear();
}

function onlyActor() {
  const { selected } = view;
  const actor = selected && (selected.bar !== undefined ? record.bars.actor[selected.bar] : record.actor[selected.entry]);
  choose("actor", actor || filter.actor);
}

function toCause() {
  const cause = view.selected?.entry !== undefined ? record.cause[view.selected.entry] : -1;
  if (cause >= 0) select(cause);
}

function toConsequence() {
  const next = view.selected?.entry !== undefined ? record.consequences(view.selected.entry)[0] : undefined;
  if (next !== undefined) select(next);
}

let isThemeChosen = false;
function theme(wanted) {
  isThemeChosen = true;
  document.documentElement.dataset.theme = wanted;
  readTheme();
  legend();
  describe();
  remember();
  redraw();
}

const otherTheme = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

const KEYS = {
  v: goToViolation, "/": () => element("search").focus(), n: () => stepMatch(1), N: () => stepMatch(-1),
  ".": () => step(1), ",": () => step(-1), "[": toCause, "]": toConsequence,
  ArrowLeft: () => move(-0.15), ArrowRight: () => move(0.15), ArrowUp: () => scroll(-60), ArrowDown: () => scroll(60),
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), f: fit, a: onlyActor, d: otherTheme, Escape: escape,
  "?": () => element("keys").showModal(), Home: () => show(raw.from, raw.from + view.t1 - view.t0),
  End: () => show(raw.until - (view.t1 - view.t0), raw.until),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || element("keys").open) return;
  const isTyping = event.target.matches("input, select");
  if (isTyping) {
    if (event.key === "Escape") canvas.focus();
    if (event.key === "Enter" && event.target.id === "search") stepMatch(event.shiftKey ? -1 : 1);
    return;
  }
  if (event.target.matches("aside *") && event.key.startsWith("Arrow")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// What stands around the picture

function options(select, title, table) {
  select.append(make("option", title, { value: "0" }));
  // In the order of their names, numbers by their size.
  const order = table.map((name, i) => [name, i + 1]).sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
  for (const [name, number] of order) select.append(make("option", name, { value: String(number) }));
}

const KIND_TITLES = {
  hears: "a machine is told something", does: "a machine asks for something", wakes: "a timer of a machine goes off",
  arrives: "a message comes", done: "what took a while is done", lost: "a message comes to nobody",
  fact: "this is so, whoever knows of it", process: "a process begins or ends", fault: "the outside goes wrong",
  violation: "what must never be",
};

function legend() {
  const box = element("legend");
  box.replaceChildren();
  raw.kinds.forEach((kind, number) => {
    if (!record.kind.includes(number)) return;
    const button = make("button", undefined, { type: "button", "aria-pressed": String(!filter.isHidden[number]), title: `${KIND_TITLES[kind] ?? kind}. Press to hide` });
    const dot = make("i");
    dot.style.background = paint.color[kind];
    button.append(dot, kind);
    button.addEventListener("click", () => {
      filter.isHidden[number] ^= 1;
      button.setAttribute("aria-pressed", String(!filter.isHidden[number]));
      filtered();
    });
    box.append(button);
  });
  const key = (text, style) => {
    const span = make("span", undefined, { class: "key" }), sample = make("i");
    sample.style.cssText = style;
    span.append(sample, text);
    box.append(span);
  };
  key("lease in the store", `background:${paint.actor[1] ?? paint.color.accent}`);
  key("believed", `border:1px solid ${paint.actor[1] ?? paint.color.accent}`);
  key("believed too long", `background:repeating-linear-gradient(135deg,${paint.color.bad} 0 2px,transparent 2px 5px)`);
}

function sentence() {
  const { sizes } = raw;
  const many = (count, name) => `${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`;
  element("title").textContent = raw.about || `Seed ${raw.seed}`;
  document.title = `${raw.about || "Seed " + raw.seed} · Holdfast`;
  element("sizes").textContent = [
    many(sizes.replicas, "replica"), `${many(sizes.nodes, "node")} with ${many(sizes.workers, "worker")}`,
    many(sizes.actors, "actor"), many(sizes.callers, "caller"), many(sizes.faults, "fault"),
    `${seconds(raw.end, 1)} s`, many(raw.events, "event"),
  ].join(" · ");
  const chip = element("verdict"), { violation } = raw;
  chip.textContent = violation ? `${violation.invariant} violated at ${seconds(violation.at)} s` : "every invariant holds";
  chip.classList.add(violation ? "bad" : "good");
  element("violation").hidden = !violation;
  if (violation) element("what").textContent = violation.what;
  const [before, after] = raw.left_out, left = [];
  if (before) left.push(`${many(before, "entry").replace("entrys", "entries")} before ${seconds(raw.from)} s`);
  if (after) left.push(`${many(after, "entry").replace("entrys", "entries")} after ${seconds(raw.until)} s`);
  element("left").textContent = `${record.count.toLocaleString("en")} entries, ${seconds(raw.from)} to ${seconds(raw.until)} s of ${seconds(raw.end)} s. `
    + (left.length ? `Left out: ${left.join(", ")}.` : "Nothing of this run is left out.");
}

function begin() {
  const wants = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  document.documentElement.dataset.theme = wants;
  readTheme();
  options(element("actor"), "all actors", raw.actors);
  options(element("worker"), "all workers", raw.workers);
  for (const op of raw.ops) element("ops").append(make("option", undefined, { value: op }));
  sentence();
  legend();
  element("go").addEventListener("click", goToViolation);
  element("clear").addEventListener("click", clear);
  element("in").addEventListener("click", () => zoom(0.5));
  element("out").addEventListener("click", () => zoom(2));
  element("fit").addEventListener("click", fit);
  element("theme").addEventListener("click", otherTheme);
  element("help").addEventListener("click", () => element("keys").showModal());
  element("before").addEventListener("click", () => stepMatch(-1));
  element("after").addEventListener("click", () => stepMatch(1));
  element("search").addEventListener("input", (event) => { filter.text = event.target.value; filtered(); });
  for (const which of ["actor", "worker"]) {
    element(which).addEventListener("change", (event) => { filter[which] = Number(event.target.value); filtered(); });
  }
  element("op").addEventListener("change", (event) => { filter.op = raw.ops.indexOf(event.target.value.trim()) + 1; filtered(); });
  addEventListener("resize", redraw);
  addEventListener("hashchange", () => goTo(location.hash));
  filter.apply();
  draw();
  if (location.hash.length > 1) goTo(location.hash);
  else if (raw.violation) goToViolation();
  else fit();
  redraw();
}

// For the console, and for tests: where things are on the screen, and what is shown.
window.story = {
  record, filter, view, shows, select, address,
  place(entry) {
    draw();
    const box = canvas.getBoundingClientRect(), spot = paint.spots.find((spot) => spot.entry === entry);
    return spot && { x: box.left + (spot.x + spot.right) / 2, y: box.top + (spot.y + spot.bottom) / 2 };
  },
};

begin();
