// The picture itself: thousands of bars on a canvas, because as many elements would be slow.

import { firstAt, ticks } from "./lanes.js";

export const LANE = 18;
export const AXIS = 24;
const BAR = 13;
const FONT = "11px system-ui, sans-serif";

/** Colours of the style sheet, for a canvas. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(["text", "soft", "line", "card", "raised", "good", "bad", "warn", "busy", "idle", "accent"].map((name) => [name, read(name)]));
}

/** The palette for the page as it is, light or dark; `changed` is called when it becomes the other. */
export function onPalette(changed) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const heard = () => changed(colours());
  dark.addEventListener("change", heard);
  return () => dark.removeEventListener("change", heard);
}

const COLOUR_OF = { succeeded: "good", failed: "bad", timed_out: "bad", lost: "bad", cancelled: "idle", paused: "warn" };

function colourOf(bar) {
  return COLOUR_OF[bar.outcome ?? bar.state] ?? "busy";
}

/** Pixels at the left that the names of groups take. */
export function gutterOf(groups, width) {
  if (groups.length < 2) return 0;
  const c = document.createElement("canvas").getContext("2d");
  c.font = FONT;
  const longest = Math.max(...groups.map((group) => c.measureText(nameOf(group)).width));
  return Math.ceil(Math.min(longest + 12, 180, width / 4));
}

function nameOf(group) {
  return group.name || "none";
}

/** Draw what is seen of `packed` between two times; `top`: pixels of lanes above it. What fails is hatched, so that it is
 *  not said by colour alone; what still runs goes to the line of now. */
export function draw(canvas, { packed, from, to, now, top, gutter, isChosen, palette }) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.fillStyle = palette.card;
  c.fillRect(0, 0, width, height);
  const x = (time) => gutter + ((time - from) / (to - from)) * (width - gutter);
  const view = { from, to, now, top, gutter, width, height, x, palette, isChosen, marks: ticks(from, to, (width - gutter) / 110) };
  c.textBaseline = "middle";
  drawGroups(c, packed.groups, view);
  c.save();
  c.beginPath();
  c.rect(gutter, 0, width - gutter, height);
  c.clip();
  for (const time of view.marks.times) line(c, x(time), AXIS, height, palette.raised);
  drawBars(c, packed.lanes, view);
  c.fillStyle = palette.card;
  c.fillRect(gutter, 0, width - gutter, AXIS);
  drawAxis(c, view);
  if (now >= from && now <= to) line(c, x(now), AXIS, height, palette.accent);
  c.restore();
  drawNames(c, packed.groups, view);
}

function line(c, x, top, bottom, colour) {
  c.strokeStyle = colour;
  c.beginPath();
  c.moveTo(Math.round(x) + 0.5, top);
  c.lineTo(Math.round(x) + 0.5, bottom);
  c.stroke();
}

function drawBars(c, lanes, view) {
  const { from, to, now, top, gutter, width, height, x } = view;
  const hatching = hatch(c, view.palette.card);
  const first = Math.max(0, Math.floor(top / LANE));
  const last = Math.min(lanes.length - 1, Math.ceil((top + height - AXIS) / LANE));
  const named = [];
  c.font = FONT;
  for (let n = first; n <= last; n++) {
    const y = AXIS + n * LANE - top;
    let drawn = -1; // the pixel up to which something is drawn already
    for (let i = firstAt(lanes[n], from, now); i < lanes[n].length && lanes[n][i].start <= to; i++) {
      const bar = lanes[n][i];
      const left = Math.max(x(bar.start), gutter - 2);
      const right = Math.min(Math.max(x(bar.end ?? now), left + 2), width + 2);
      const chosen = view.isChosen(bar);
      if (right <= drawn && !chosen) continue;
      drawn = right;
      drawBar(c, bar, { left, right, y, chosen, hatching, palette: view.palette });
      if (right - left > 50) named.push([bar, left, right, y]);
    }
  }
  c.fillStyle = view.palette.card;
  for (const [bar, left, right, y] of named) clipped(c, bar.name ?? bar.id, Math.max(left, gutter) + 4, y + 2 + BAR / 2, right - 4);
}

function drawBar(c, bar, { left, right, y, chosen, hatching, palette }) {
  c.fillStyle = palette[colourOf(bar)];
  c.fillRect(left, y + 2, right - left, BAR);
  if (["failed", "timed_out", "lost"].includes(bar.outcome) && right - left > 6) {
    c.fillStyle = hatching;
    c.fillRect(left, y + 2, right - left, BAR);
  }
  if (!chosen) return;
  c.lineWidth = 2;
  c.strokeStyle = palette.text;
  c.strokeRect(left - 1, y + 1, right - left + 2, BAR + 2);
  c.lineWidth = 1;
}

/** Text that ends before `right`, if need be in the middle of a letter. */
function clipped(c, text, left, y, right) {
  c.save();
  c.beginPath();
  c.rect(left, y - LANE / 2, right - left, LANE);
  c.clip();
  c.fillText(text, left, y);
  c.restore();
}

function hatch(c, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const t = tile.getContext("2d");
  t.strokeStyle = colour;
  t.globalAlpha = 0.4;
  t.beginPath();
  for (const at of [-6, 0, 6]) {
    t.moveTo(at - 1, 7);
    t.lineTo(at + 7, -1);
  }
  t.stroke();
  return c.createPattern(tile, "repeat");
}

function drawAxis(c, { gutter, width, x, palette, marks: { times, step } }) {
  c.fillStyle = palette.soft;
  c.font = "12px system-ui, sans-serif";
  for (const time of times) {
    const at = new Date(time);
    const options = { hour: "2-digit", minute: "2-digit", hour12: false };
    if (step < 60_000) options.second = "2-digit";
    if (step < 1000) options.fractionalSecondDigits = step < 100 ? 2 : 1;
    const text = step >= 86_400_000 ? at.toLocaleDateString("sv") : at.toLocaleTimeString([], options);
    if (x(time) + 4 + c.measureText(text).width <= width) c.fillText(text, x(time) + 4, AXIS / 2);
    line(c, x(time), AXIS - 6, AXIS, palette.line);
  }
  c.fillStyle = palette.line;
  c.fillRect(gutter, AXIS - 1, width, 1);
}

function drawGroups(c, groups, { top, width, height, palette }) {
  if (groups.length < 2) return;
  groups.forEach((group, i) => {
    const y = AXIS + group.from * LANE - top;
    if (i % 2 === 0 || y > height || y + group.lanes * LANE < AXIS) return;
    c.globalAlpha = 0.6;
    c.fillStyle = palette.raised;
    c.fillRect(0, y, width, group.lanes * LANE);
    c.globalAlpha = 1;
  });
}

/** Of groups, at the left of their bars; a name stays in sight as long as one of its lanes is. */
function drawNames(c, groups, { top, gutter, height, palette }) {
  if (!gutter) return;
  c.font = FONT;
  for (const group of groups) {
    const own = AXIS + group.from * LANE - top;
    const y = Math.max(own, Math.min(AXIS, own + (group.lanes - 1) * LANE));
    if (y <= AXIS - LANE || y > height) continue;
    c.fillStyle = group.name ? palette.text : palette.soft;
    clipped(c, nameOf(group), 4, y + LANE / 2, gutter - 4);
  }
  c.fillStyle = palette.card;
  c.fillRect(0, 0, gutter, AXIS - 1);
  line(c, gutter - 0.5, AXIS, height, palette.line);
}
