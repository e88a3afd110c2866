// What tasks use now: processor time is a counter, so its rate is what lies between two looks. The stream tells all of
// it once, and then what has changed.

import { useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { USE_EVERY, useEvents } from "../core/events.js";
import { get } from "../core/http.js";

/** A function of a task's id: {cpu: processors busy, or null, memory: bytes, or null}; undefined where nothing is known. */
export function useUse() {
  const [, redraw] = useState(0);
  const seen = useRef({ at: null, tasks: new Map() }).current;
  const take = (at, tasks) => {
    if (seen.at !== null && at <= seen.at) return;
    for (const known of seen.tasks.values()) known.rate = known.cpu === null ? null : 0; // unless it is told of now
    for (const [id, [cpu, memory]] of Object.entries(tasks)) {
      const known = seen.tasks.get(id);
      const counted = known && known.cpu !== null && cpu !== null && cpu >= known.cpu;
      seen.tasks.set(id, { cpu, memory, rate: counted ? (cpu - known.cpu) / ((at - seen.at) / 1000) : null });
    }
    seen.at = at;
    seen.heard = performance.now();
    redraw((n) => n + 1);
  };
  useEffect(() => {
    const controller = new AbortController();
    get("/v1/node/tasks", {}, { signal: controller.signal }).then(
      (found) => take(Date.parse(found.at), Object.fromEntries(found.tasks.map((each) => [each.taskId, [each.cpuSeconds, each.rssBytes]]))),
      () => {}, // the stream tells it a little later
    );
    return () => controller.abort();
  }, []);
  useEvents((kind, data) => {
    if (kind === "use") take(Date.parse(data.at), data.tasks);
    if (kind === "state" && data.outcome) seen.tasks.delete(data.taskId);
  });
  return (id) => {
    const known = seen.tasks.get(id);
    if (!known) return undefined;
    // nothing at all is told while nothing changes
    const still = performance.now() - seen.heard > 3000 * USE_EVERY;
    return { cpu: known.cpu !== null && still ? 0 : known.rate, memory: known.memory };
  };
}
