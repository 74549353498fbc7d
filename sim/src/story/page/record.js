"use strict";
// The record: decoded once into columns, with the indices that drawing and searching need.

const record = (() => {
  const raw = JSON.parse(document.getElementById("record").textContent);
  const count = raw.entries.at.length;
  const at = new Float64Array(count);
  const cause = new Int32Array(count).fill(-1); // -2: it is before the record.
  let time = 0;
  for (let i = 0; i < count; i++) {
    time += raw.entries.at[i];
    at[i] = time;
    const back = raw.entries.cause[i];
    if (back > 0) cause[i] = back <= i ? i - back : -2;
  }
  const column = (from) => Uint32Array.from(from);
  const abouts = (about) => {
    const columns = {};
    for (const name of ["label", "detail", "actor", "worker", "op", "fence"]) columns[name] = column(about[name]);
    return columns;
  };
  const lane = column(raw.entries.lane);
  const kind = Uint8Array.from(raw.entries.kind);

  // Consequences, as one run of numbers per entry.
  const begin = new Int32Array(count + 1);
  for (let i = 0; i < count; i++) if (cause[i] >= 0) begin[cause[i] + 1]++;
  for (let i = 0; i < count; i++) begin[i + 1] += begin[i];
  const filled = begin.slice();
  const effects = new Int32Array(begin[count]);
  for (let i = 0; i < count; i++) if (cause[i] >= 0) effects[filled[cause[i]]++] = i;

  const ofLane = raw.lanes.map(() => []);
  for (let i = 0; i < count; i++) ofLane[lane[i]].push(i);

  const bars = {
    count: raw.bars.from.length,
    from: Float64Array.from(raw.bars.from),
    until: Float64Array.from(raw.bars.until, (until) => until ?? Infinity),
    covered: Float64Array.from(raw.bars.covered, (covered) => covered ?? Infinity),
    lane: column(raw.bars.lane),
    span: Uint8Array.from(raw.bars.span),
    cause: Int32Array.from(raw.bars.cause, (cause) => cause ?? -1),
    ...abouts(raw.bars.about),
  };
  const text = (table, number) => (number ? table[number - 1] : "");
  return {
    raw, count, at, cause, lane, kind, bars,
    ...abouts(raw.entries.about),
    lanes: raw.lanes.map((lane, number) => ({ ...lane, number, entries: Int32Array.from(ofLane[number]) })),
    consequences: (entry) => effects.subarray(begin[entry], begin[entry + 1]),
    labelOf: (of, i) => text(raw.labels, of.label[i]),
    detailOf: (of, i) => text(raw.details, of.detail[i]),
    actorOf: (of, i) => text(raw.actors, of.actor[i]),
    workerOf: (of, i) => text(raw.workers, of.worker[i]),
    opOf: (of, i) => text(raw.ops, of.op[i]),
    fenceOf: (of, i) => text(raw.fences, of.fence[i]),
    kindOf: (i) => raw.kinds[kind[i]],
    spanOf: (i) => raw.spans[bars.span[i]],
  };
})();

// What a clock shows at a moment of true time, in microseconds, as the simulator computes it.
function shows(lane, now) {
  if (lane.offset === null) return null;
  return lane.offset + now + Math.floor((now * lane.gain) / 1e6);
}

// The first of sorted `numbers` whose time is not before `time`.
function firstAt(numbers, time) {
  let low = 0, high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (record.at[numbers[middle]] < time) low = middle + 1; else high = middle;
  }
  return low;
}

function seconds(micros, digits = 6) {
  const sign = micros < 0 ? "-" : "";
  const whole = Math.abs(Math.round(micros));
  const rest = String(whole % 1e6).padStart(6, "0").slice(0, digits);
  return sign + Math.floor(whole / 1e6) + (digits ? "." + rest : "");
}

// What is asked for, and which entries and bars are like that.
const filter = {
  text: "", actor: 0, worker: 0, op: 0, isHidden: new Uint8Array(record.raw.kinds.length),
  isOn: false, matches: new Uint8Array(record.count), barMatches: new Uint8Array(record.bars.count), hits: new Int32Array(0),

  apply() {
    const words = this.text.toLowerCase().split(/\s+/).filter(Boolean);
    this.isOn = Boolean(words.length || this.actor || this.worker || this.op);
    // Texts are shared: each is looked at once, however many entries have it.
    const has = (table, word) => {
      const found = new Uint8Array(table.length + 1);
      table.forEach((text, i) => { found[i + 1] = text.toLowerCase().includes(word) ? 1 : 0; });
      return found;
    };
    const { raw } = record;
    const tables = words.map((word) => ({
      label: has(raw.labels, word), detail: has(raw.details, word), actor: has(raw.actors, word),
      worker: has(raw.workers, word), op: has(raw.ops, word), lane: raw.lanes.map((lane) => lane.name.includes(word)),
    }));
    const isLike = (of, i) =>
      (!this.actor || of.actor[i] === this.actor) && (!this.worker || of.worker[i] === this.worker)
      && (!this.op || of.op[i] === this.op)
      && tables.every((found) => found.label[of.label[i]] || found.detail[of.detail[i]] || found.actor[of.actor[i]]
        || found.worker[of.worker[i]] || found.op[of.op[i]] || found.lane[of.lane[i]]);
    const hits = [];
    for (let i = 0; i < record.count; i++) {
      const is = !this.isHidden[record.kind[i]] && isLike(record, i);
      this.matches[i] = is ? 1 : 0;
      if (is && this.isOn) hits.push(i);
    }
    for (let i = 0; i < record.bars.count; i++) this.barMatches[i] = isLike(record.bars, i) ? 1 : 0;
    this.hits = Int32Array.from(hits);
  },
};
