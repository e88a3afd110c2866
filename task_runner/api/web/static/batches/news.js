// Batches change with their tasks: an event of a task says of which batch it is.

import { useEffect, useRef } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";

/** milliseconds between two looks at least */
const PAUSE = 700;

/** Call `look` some time after an event for which `concerns(event)` is true, and after every lost connection; seldom
 *  while many come. */
export function useNews(look, concerns) {
  const timer = useRef(null);
  const latest = useRef(null);
  latest.current = { look, concerns };
  useEvents((kind, data) => {
    const again = kind === "begin" || (kind === "connection" && data.returned);
    if (!again && !(kind === "state" && latest.current.concerns(data))) return;
    timer.current ??= setTimeout(() => {
      timer.current = null;
      latest.current.look();
    }, PAUSE);
  });
  useEffect(() => () => clearTimeout(timer.current), []);
}
