// Batches change with their tasks: an event of a task says of which batch it is.

import { useEvents } from "../core/events.js";
import { useSeldom } from "../core/seldom.js";

/** milliseconds between two looks at least */
const PAUSE = 700;

/** Call `look`, which promises its end, some time after an event for which `concerns(event)` is true, and after every
 *  lost connection. */
export function useNews(look, concerns) {
  const seldom = useSeldom(look, PAUSE);
  useEvents((kind, data) => {
    if (kind === "begin") seldom.ask({ lost: true });
    else if (kind === "state" && concerns(data)) seldom.ask();
  });
}
