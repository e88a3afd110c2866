// A task that stays as it is in the daemon: read once, and again after each event that tells of it.

import { useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { ApiError, get, route } from "../core/http.js";
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
  const gone = useRef(false);
  const timer = useRef(null);
  const known = loaded.value?.taskId ?? id;
  const look = () => {
    if (gone.current) return;
    timer.current ??= setTimeout(() => {
      timer.current = null;
      loaded.reload();
      setChanges((n) => n + 1);
    }, SELDOM);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  useEvents((kind, data) => {
    if (kind === "begin" || data.returned || (kind === "state" && data.taskId === known)) look();
    else if (kind === "gone" && data.tasks.includes(known)) {
      gone.current = true;
      clearTimeout(timer.current);
      setDeleted(true);
    }
  }, [known]);
  return { ...loaded, error: deleted ? GONE : loaded.error, changes };
}
