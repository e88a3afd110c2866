// One stream of /v1/events for the whole page.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { Stream } from "./stream.js";
import { USE_EVERY, Uses } from "./use.js";

const subscribers = new Set();
/** heard from the first event on, which tells of all tasks: a component comes later, with its page */
const uses = new Uses();
let connected = null; // null: not tried yet

function announce(kind, data) {
  uses.hear(kind, data);
  subscribers.forEach((heard) => heard(kind, data));
}

const telling = (kind) => (data) => announce(kind, data);
const stream = new Stream(
  (last) => `/v1/events?use=${USE_EVERY}` + (last === null ? "" : `&after=${last}`),
  { state: telling("state"), gone: telling("gone"), use: telling("use") },
  (there) => {
    const returned = connected === false && there;
    if (connected !== there) {
      connected = there;
      announce("connection", { connected, returned });
    }
    if (!there) return;
    announce("stream", {});
    // what happened before the first event of a new stream is not told; and after a loss more may have changed than events tell
    if (stream.last === null || returned) announce("begin", {});
  },
);

/** Hear of events while a component is shown: heard(kind, data). Kinds: "state" (a task has changed), "gone" (tasks
 *  have been removed), "use" (what running tasks use), "stream" (one begins, which tells of use anew), "begin" (look at everything again), "connection" ({connected, returned}). */
export function useEvents(heard, dependencies = []) {
  useEffect(() => {
    if (subscribers.size === 0) stream.begin();
    subscribers.add(heard);
    return () => {
      subscribers.delete(heard);
      if (subscribers.size > 0) return;
      stream.end();
      connected = null; // of the next stream nothing is known yet
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
