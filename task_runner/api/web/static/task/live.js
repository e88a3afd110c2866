// A task that stays as it is in the daemon: read once, and again after each event that tells of it.

import { useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { get, query, route } from "../core/http.js";
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

/** What a task uses just now: {cpuSeconds, rssBytes, processes, outputBytes, cpus}, `cpus` being the processors it kept
 *  busy between the last two looks; null while nothing is known. */
export function useUse(task) {
  const [use, setUse] = useState(null);
  const id = task.taskId;
  const take = (at, figures) => setUse((before) => {
    const seconds = before ? (Date.parse(at) - Date.parse(before.at)) / 1000 : 0;
    const spent = before ? figures.cpuSeconds - before.cpuSeconds : NaN;
    return { at, ...figures, cpus: seconds > 0.2 && spent >= 0 ? spent / seconds : (before?.cpus ?? null) };
  });
  useEffect(() => {
    setUse(null);
    if (isFinal(task)) return undefined;
    const controller = new AbortController();
    get(`/v1/node/tasks${query({ task: id })}`, {}, { signal: controller.signal }).then(
      ({ at, tasks: [mine] }) => mine && take(at, mine),
      () => {}, // it is shown when the first event comes
    );
    return () => controller.abort();
  }, [id, task.attempt, isFinal(task)]);
  useEvents((kind, data) => {
    const mine = kind === "use" && data.tasks[id];
    if (!mine) return;
    const [cpuSeconds, rssBytes, processes, outputBytes] = mine;
    take(data.at, { cpuSeconds, rssBytes, processes, outputBytes });
  }, [id]);
  return use;
}
