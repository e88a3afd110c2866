// The picture with what hands do to it: pointing, dragging, wheels, pinching, keys.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { count, duration, moment } from "../core/format.js";
import { go } from "../core/location.js";
import { hands } from "./hands.js";
import { barAt, zoomed } from "./lanes.js";
import { AXIS, colours, draw, gutterOf, LANE, onPalette } from "./picture.js";

const HIGHEST = 560;
/** pixels beside a bar that still mean it */
const REACH = 4;
/** milliseconds without a movement, after which the address follows */
const REST = 150;

const LEGEND = [["good", "succeeded"], ["bad hatched", "failed, timed out, lost"], ["idle", "cancelled"], ["busy", "running"], ["warn", "paused"]];

/** `place`: the interval as the address names it. `show({from, to})`: the hands have come to rest there. `zoom(factor)`:
 *  about the middle, or about now. */
export function Picture({ packed, interval, place, now, show, zoom }) {
  const scroller = useRef(null);
  const canvas = useRef(null);
  const [chosenKey, choose] = useState(null);
  const [palette, setPalette] = useState(colours);
  const [width, setWidth] = useState(0);
  const [, redraw] = useState(0);
  const wanted = useRef(null); // what is drawn while hands move
  const rest = useRef(null);
  const placed = useRef(place);
  if (placed.current !== place) { // somebody has asked for another interval since the hands moved
    placed.current = place;
    wanted.current = null;
    clearTimeout(rest.current);
  }
  const { from, to } = wanted.current ?? interval;
  const content = AXIS + Math.max(packed.lanes.length, 3) * LANE + 4;
  const height = Math.min(content, HIGHEST);
  const gutter = useMemo(() => gutterOf(packed.groups, width), [packed, width]);
  const seen = useMemo(() => packed.bars.filter((bar) => bar.start <= to && (bar.end ?? now) >= from), [packed, from, to, now]);
  const chosen = chosenKey && seen.find((bar) => keyOf(bar) === chosenKey);

  useEffect(() => {
    const size = new ResizeObserver(() => setWidth(canvas.current?.clientWidth ?? 0));
    size.observe(canvas.current);
    return () => size.disconnect();
  }, []);
  useEffect(() => onPalette(setPalette), []);
  useEffect(() => () => clearTimeout(rest.current), []);
  useEffect(() => {
    const isChosen = (bar) => keyOf(bar) === chosenKey;
    const top = scroller.current.scrollTop;
    const frame = requestAnimationFrame(() => draw(canvas.current, { packed, from, to, now, top, gutter, isChosen, palette }));
    return () => cancelAnimationFrame(frame);
  });

  const timeAt = (clientX, span = { from, to }) => {
    const box = canvas.current.getBoundingClientRect();
    return span.from + ((span.to - span.from) * (clientX - box.left - gutter)) / (box.width - gutter);
  };
  const move = (next, top) => {
    wanted.current = next;
    if (top !== undefined) scroller.current.scrollTop = top;
    redraw((n) => n + 1);
    clearTimeout(rest.current);
    rest.current = setTimeout(() => {
      if (pointers.holding()) return move(wanted.current);
      const at = wanted.current;
      wanted.current = null;
      show(at);
    }, REST);
  };
  const find = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const y = event.clientY - box.top - AXIS;
    const lane = y >= 0 && packed.lanes[Math.floor((y + scroller.current.scrollTop) / LANE)];
    return lane ? barAt(lane, timeAt(event.clientX), (REACH * (to - from)) / (box.width - gutter), now) : null;
  };
  const open = (bar) => bar && go(`/ui/tasks/${encodeURIComponent(bar.id)}?attempt=${bar.attempt}`);
  const latest = useRef({});
  latest.current = {
    now: () => ({ from, to, top: scroller.current.scrollTop }),
    timeAt,
    move,
    hover: (event) => choose(keyOf(find(event))),
    click: (event) => open(find(event)),
  };
  const pointers = useMemo(() => hands(Object.fromEntries(Object.keys(latest.current).map((name) => [name, (...of) => latest.current[name](...of)]))), []);
  const step = (by) => {
    const at = seen.findIndex((bar) => keyOf(bar) === chosenKey);
    const next = seen[at < 0 ? (by > 0 ? 0 : seen.length - 1) : Math.min(Math.max(at + by, 0), seen.length - 1)];
    if (!next) return;
    choose(keyOf(next));
    const y = next.lane * LANE;
    const top = scroller.current.scrollTop;
    scroller.current.scrollTop = Math.max(Math.min(top, y), y + LANE * 2 + AXIS - height);
  };
  const shift = (share) => move({ from: from + (to - from) * share, to: to + (to - from) * share });
  // before the hands rest, the address does not know what is seen
  const closer = (factor) => (wanted.current ? move(zoomed({ from, to }, factor, (from + to) / 2)) : zoom(factor));
  const keys = {
    ArrowRight: () => step(1), ArrowLeft: () => step(-1),
    ArrowDown: () => scroller.current.scrollBy(0, LANE * 3), ArrowUp: () => scroller.current.scrollBy(0, -LANE * 3),
    "+": () => closer(0.5), "-": () => closer(2), "[": () => shift(-0.25), "]": () => shift(0.25),
    Enter: () => open(chosen), Escape: () => choose(null),
  };
  const pressed = (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  };
  // a wheel alone scrolls, as everywhere; what a touchpad sends for a pinch is a wheel with Ctrl
  useWheel(canvas, (event) => {
    if (event.ctrlKey || event.metaKey) move(zoomed({ from, to }, Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), timeAt(event.clientX)));
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) shift((event.deltaX || event.deltaY) / (width - gutter));
    else return;
    event.preventDefault();
  });
  return html`<section class="card" aria-label="Picture of the timeline">
    <p class="span numbers"><span><${Moment} at=${from} /> to <${Moment} at=${to} /></span> <span class="soft">${seen.length ? count(seen.length, "attempt") : "nothing ran"}</span></p>
    <div class="lanes" ref=${scroller} style=${{ height: `${height}px` }} onScroll=${() => redraw((n) => n + 1)}>
      <div style=${{ height: `${content}px` }}>
        <canvas ref=${canvas} class="timeline" tabindex="0" role="application" aria-describedby="timeline-chosen timeline-help"
          aria-label="What ran when: ${count(seen.length, "attempt")}" style=${{ height: `${height}px` }} onKeyDown=${pressed}
          onPointerDown=${pointers.onPointerDown} onPointerMove=${pointers.onPointerMove} onPointerUp=${pointers.onPointerUp}
          onPointerCancel=${pointers.onPointerCancel} onPointerLeave=${() => pointers.holding() || choose(null)}></canvas>
      </div>
    </div>
    <p id="timeline-chosen" class="chosen" aria-live="polite">${chosen ? told(chosen, now) : "\u00a0"}</p>
    <p class="legend">${LEGEND.map(([colour, meaning]) => html`<span><span class="key ${colour}"></span>${meaning}</span>`)}</p>
    <p id="timeline-help" class="hint">Drag to move; Ctrl and wheel, two fingers, or + and − to zoom; ← and → go from bar to bar, Enter opens one; [ and ] move in time.</p>
  </section>`;
}

function keyOf(bar) {
  return bar && `${bar.id} ${bar.attempt}`;
}

function Moment({ at }) {
  return html`<time datetime=${new Date(at).toISOString()}>${moment(new Date(at).toISOString())}</time>`;
}

function told(bar, now) {
  const seconds = ((bar.end ?? now) - bar.start) / 1000;
  const ending = bar.outcome ?? bar.state;
  return `${bar.name ?? bar.id}${bar.attempt > 1 ? ` (attempt ${bar.attempt})` : ""}: ${ending.replace("_", " ")}, started ${moment(new Date(bar.start).toISOString())}, ${duration(seconds)}${bar.entity ? `, entity ${bar.entity}` : ""}`;
}

/** A wheel listener that may keep the page from scrolling; those of Preact may not. */
function useWheel(element, heard) {
  const latest = useRef(heard);
  latest.current = heard;
  useEffect(() => {
    const listen = (event) => latest.current(event);
    const target = element.current;
    target.addEventListener("wheel", listen, { passive: false });
    return () => target.removeEventListener("wheel", listen);
  }, []);
}
