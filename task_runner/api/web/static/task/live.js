// A task that stays as it is in the daemon: read once, and again after each event that tells of it.

import { useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { ApiError, get, route } from "../core/http.js";
import { useSeldom } from "../core/seldom.js";
import { useLoaded } from "../core/ui.js";

/** milliseconds; a task that reports progress all the time is not asked for all the time */
const SELDOM = 250;

const GONE = new ApiError(404, { detail: "the task has been deleted" });

export const isFinal = (task) => task.state === "exited" || task.state === "lost";

/** As `useLoaded`, of a task; `changes` counts the events that told of it. It is not asked for once it is known to be
 *  gone: who deletes it may hear of that before the answer, and the page that comes then takes a while to load. */
export function useTask(id) {
  const loaded = useLoaded((signal) => get(route`/v1/tasks/${id}`, {}, { signal }), [id]);
  const [changes, setChanges] = useState(0);
  const [deleted, setDeleted] = useState(false);
  const known = loaded.value?.taskId ?? id;
  const seldom = useSeldom(() => {
    setChanges((n) => n + 1);
    return loaded.reload();
  }, SELDOM);
  useEvents((kind, data) => {
    if (kind === "begin") seldom.ask({ lost: true });
    else if (kind === "state" && data.taskId === known) seldom.ask();
    else if (kind === "gone" && data.tasks.includes(known)) {
      seldom.end();
      setDeleted(true);
    }
  }, [known]);
  return { ...loaded, error: deleted ? GONE : loaded.error, changes };
}
