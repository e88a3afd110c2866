// A task that stays as it is in the daemon: read once, and again after each event that tells of it.

import { useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { get, route } from "../core/http.js";
import { useLoaded } from "../core/ui.js";

/** milliseconds; a task that reports progress all the time is not asked for all the time */
const SELDOM = 250;

export const isFinal = (task) => task.state === "exited" || task.state === "lost";

/** As `useLoaded`, of a task; `changes` counts the events that told of it. */
export function useTask(id) {
  const loaded = useLoaded((signal) => get(route`/v1/tasks/${id}`, {}, { signal }), [id]);
  const [changes, setChanges] = useState(0);
  const timer = useRef(null);
  const known = loaded.value?.taskId ?? id;
  const look = () => {
    timer.current ??= setTimeout(() => {
      timer.current = null;
      loaded.reload();
      setChanges((n) => n + 1);
    }, SELDOM);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  useEvents((kind, data) => {
    if (kind === "begin" || data.returned || (kind === "state" && data.taskId === known) || (kind === "gone" && data.tasks.includes(known))) look();
  }, [known]);
  return { ...loaded, changes };
}
