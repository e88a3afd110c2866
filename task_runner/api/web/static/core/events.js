// One stream of /v1/events for the whole page. It is given up while nobody looks: a browser has six connections to a
// host, and pages in the background shall not hold them. Every return resumes where the stream stood.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { USE_EVERY, Uses } from "./use.js";

const RETRY_AFTER = [500, 1000, 2000, 5000];

const subscribers = new Set();
/** heard from the first event on, which tells of all tasks: a component comes later, with its page */
const uses = new Uses();
let source = null;
let last = null;
let failures = 0;
let retry = null;
let connected = null; // null: not tried yet

function announce(kind, data) {
  uses.hear(kind, data);
  subscribers.forEach((heard) => heard(kind, data));
}

function setConnected(value) {
  if (connected === value) return;
  const returned = connected === false && value;
  connected = value;
  announce("connection", { connected, returned });
}

function open() {
  clearTimeout(retry);
  if (source || document.hidden || subscribers.size === 0) return;
  source = new EventSource(`/v1/events?use=${USE_EVERY}` + (last === null ? "" : `&after=${last}`));
  source.onopen = () => {
    failures = 0;
    setConnected(true);
    announce("stream", {});
    // what happened before the first event of a new stream is not told: whoever shows something looks again
    if (last === null) announce("begin", {});
  };
  source.addEventListener("state", (event) => {
    last = event.lastEventId;
    announce("state", JSON.parse(event.data));
  });
  source.addEventListener("gone", (event) => announce("gone", JSON.parse(event.data)));
  source.addEventListener("use", (event) => announce("use", JSON.parse(event.data)));
  source.onerror = () => {
    // the browser's own retry gives up on an answer like 503, and repeats the address with an old ?after=
    close();
    setConnected(false);
    retry = setTimeout(open, RETRY_AFTER[Math.min(failures++, RETRY_AFTER.length - 1)]);
  };
}

function close() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? (clearTimeout(retry), close()) : open()));

/** Hear of events while a component is shown: heard(kind, data). Kinds: "state" (a task has changed), "gone" (tasks
 *  have been removed), "use" (what running tasks use), "stream" (one begins, which tells of use anew), "begin" (look at everything again), "connection" ({connected, returned}). */
export function useEvents(heard, dependencies = []) {
  useEffect(() => {
    subscribers.add(heard);
    open();
    return () => {
      subscribers.delete(heard);
      if (subscribers.size === 0) {
        clearTimeout(retry);
        close();
        last = null;
        connected = null; // of the next stream nothing is known yet
      }
    };
  }, dependencies);
}

/** Whether there is contact with the daemon: true, false, or null before the first answer. */
export function useConnected() {
  const [value, setValue] = useState(connected);
  useEvents((kind, data) => kind === "connection" && setValue(data.connected));
  return value;
}

const use = (id) => uses.of(id);

/** A function of a task's id: what it uses now, see `Uses.of`. */
export function useUse() {
  const [, redraw] = useState(0);
  useEvents((kind) => kind === "use" && redraw((n) => n + 1));
  return use;
}
