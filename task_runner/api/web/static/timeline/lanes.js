// What the picture of the timeline decides, apart from the drawing: which bar lies in which lane, which one is under a
// point, where the marks of the time axis stand. Times are milliseconds since 1970.

/** Bars of the daemon's columns, the earliest first. Where no end is known the bar goes on to `now`. */
export function barsOf(answer) {
  const { taskId, startedAt, finishedAt } = answer;
  const bars = taskId.map((id, i) => ({
    id,
    start: Date.parse(startedAt[i]),
    end: finishedAt[i] ? Date.parse(finishedAt[i]) : null,
    name: answer.name[i],
    batch: answer.batch[i],
    entity: answer.entity[i],
    outcome: answer.outcome[i],
    state: answer.state[i],
    attempt: answer.attempt[i],
  }));
  return bars.filter((bar) => !Number.isNaN(bar.start)).sort(earlier);
}

function earlier(a, b) {
  return a.start - b.start || (a.id < b.id ? -1 : 1);
}

/** Give each bar the lowest lane in which nothing runs at that time; with `by`, lanes of one group lie together, in the
 *  order of their names, and what has none comes last.
 *  Returns {bars: [… with lane], lanes: [[bars of the lane, in order], …], groups: [{name, from, lanes}]}. */
export function pack(bars, by = null) {
  const groups = new Map();
  for (const bar of bars) {
    const name = by ? bar[by] ?? "" : "";
    let group = groups.get(name);
    if (!group) groups.set(name, (group = { name, ends: [], placed: [] }));
    const end = bar.end ?? Infinity;
    let lane = group.ends.findIndex((busyUntil) => busyUntil <= bar.start);
    if (lane < 0) lane = group.ends.length;
    group.ends[lane] = end;
    group.placed.push([bar, lane]);
  }
  const lanes = [];
  const named = [];
  const order = [...groups.values()].sort((a, b) => (a.name === "") - (b.name === "") || a.name.localeCompare(b.name, "en", { numeric: true }));
  for (const { name, ends, placed } of order) {
    const from = lanes.length;
    named.push({ name, from, lanes: ends.length });
    ends.forEach(() => lanes.push([]));
    for (const [bar, lane] of placed) lanes[from + lane].push({ ...bar, lane: from + lane });
  }
  return { bars: lanes.flat().sort(earlier), lanes, groups: named };
}

/** The place in a lane of the first bar that has not ended before a time. Bars of one lane do not overlap, so that they
 *  end in the order in which they start. */
export function firstAt(lane, time, now) {
  let low = 0;
  let high = lane.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((lane[middle].end ?? now) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The bar of a lane at a time, or the nearest within `reach` milliseconds: a short one is thinner than a pointer. */
export function barAt(lane, time, reach, now) {
  let best = null;
  let distance = reach;
  for (let i = firstAt(lane, time - reach, now); i < lane.length && lane[i].start <= time + distance; i++) {
    const off = Math.max(lane[i].start - time, time - (lane[i].end ?? now), 0);
    if (off <= distance) {
      best = lane[i];
      distance = off;
    }
  }
  return best;
}

const MINUTE = 60_000;
const SHORTEST = 100;
const STEPS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE,
  60 * MINUTE, 120 * MINUTE, 360 * MINUTE, 720 * MINUTE, 1440 * MINUTE, 10_080 * MINUTE];

/** Times of the axis, at most `most` of them, on round values of the local clock. */
export function ticks(from, to, most) {
  const step = STEPS.find((each) => (to - from) / each <= most) ?? STEPS[STEPS.length - 1];
  const shift = new Date(from).getTimezoneOffset() * MINUTE;
  const times = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) times.push(at);
  return { times, step };
}

/** A part of the axis is shown closer (factor < 1) or from farther away, with the time `at` kept where it is. */
export function zoomed({ from, to }, factor, at) {
  const span = Math.min(Math.max((to - from) * factor, SHORTEST), 366 * 1440 * MINUTE);
  const share = (at - from) / (to - from);
  return { from: at - share * span, to: at + (1 - share) * span };
}
