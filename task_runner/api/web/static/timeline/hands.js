// What hands do to the picture of the timeline: dragging and pinching, with a mouse or with fingers.

import { zoomed } from "./lanes.js";

/** pixels that a hand may tremble before a click is a drag */
const STILL = 4;

/** Handlers of pointers. `now()` returns {from, to, top} as they are; `timeAt(clientX)`; `move({from, to}, top)`;
 *  `hover(event)` and `click(event)` are for pointers that move nothing. */
export function hands({ now, timeAt, move, hover, click }) {
  const down = new Map(); // by pointer: where it is
  let start = null; // how it was when the number of pointers last changed
  let moved = false;
  const middle = () => [...down.values()].reduce(([x, y], each) => [x + each.x / down.size, y + each.y / down.size], [0, 0]);
  const spread = () => {
    const [one, two] = [...down.values()];
    return two ? Math.max(Math.abs(one.x - two.x), 10) : 0;
  };
  const begin = () => {
    const [x, y] = middle();
    start = down.size ? { ...now(), x, y, spread: spread(), time: timeAt(x) } : null;
  };
  const put = (event) => down.set(event.pointerId, { x: event.clientX, y: event.clientY });
  return {
    holding: () => down.size > 0,
    onPointerDown(event) {
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      if (!down.size) moved = false;
      put(event);
      begin();
    },
    onPointerMove(event) {
      if (!down.has(event.pointerId)) {
        if (!down.size) hover(event);
        return;
      }
      put(event);
      const [x, y] = middle();
      if (!moved && down.size < 2 && Math.hypot(x - start.x, y - start.y) < STILL) return;
      moved = true;
      const seen = start.spread ? zoomed(start, start.spread / spread(), start.time) : start;
      // the time that was under the hand stays under it
      const shift = start.time - timeAt(x, seen);
      move({ from: seen.from + shift, to: seen.to + shift }, start.top - (y - start.y));
    },
    onPointerUp(event) {
      if (!down.delete(event.pointerId)) return;
      if (!moved && !down.size) click(event);
      begin();
    },
    onPointerCancel(event) {
      down.delete(event.pointerId);
      begin();
    },
  };
}
