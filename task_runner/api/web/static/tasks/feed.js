// One page of the list of tasks, kept right by events. An event of a row that is shown changes it; all others only tell
// that the page may have changed, and then it is asked for anew: one request at a time, seldom while much happens.

import { useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { query, request } from "../core/http.js";

export const PAGE = 100;
/** milliseconds between two looks at least; and how many times as long as a look took */
const PAUSE = 1000, EASE = 5;
/** so many strange tasks between two looks are a storm: the page waits, and says how many there are */
export const STORM = 20;
const REMEMBERED = 20_000;
const BEGUN = new Set(["provisioning", "running", "paused", "stopping"]);

/** A row after an event of its task. The times of an event are as exact as its state is. */
export function merged(row, event) {
  const again = event.attempt !== row.attempt;
  const started = again ? null : row.startedAt;
  return {
    ...row, state: event.state, outcome: event.outcome, attempt: event.attempt, stalled: event.stalled, progress: event.progress,
    pendingReason: event.state === row.state && !again ? row.pendingReason : null,
    startedAt: started ?? (BEGUN.has(event.state) ? event.at : null),
    finishedAt: event.outcome ? (again ? event.at : row.finishedAt ?? event.at) : null,
  };
}

/** Whether a task that an event or a row tells of can be in a list with these parameters. */
export function fits(parameters, { state, outcome, stalled, batch, entity }) {
  const among = (wanted, value) => !wanted || wanted.split(",").includes(value);
  return among(parameters.state, state) && among(parameters.outcome, outcome)
    && (!parameters.stalled || (parameters.stalled === "true") === Boolean(stalled))
    && (!parameters.batch || parameters.batch === batch) && (!parameters.entity || parameters.entity === entity);
}

class Feed {
  constructor(parameters, { tell, calm }) {
    this.parameters = parameters;
    this.tell = tell;
    this.calm = calm;
    this.rows = null;
    this.older = null;
    this.error = null;
    this.news = new Map(); // the last event of each task since the last frame
    this.meanwhile = null; // the same, since the request that is under way was sent
    this.gone = new Set(); // what has been removed since then
    this.listening = new Set(); // of each `listen`: the last event of each task since
    this.strange = new Map(); // what may belong here, and is not shown: a mark of each task
    this.elsewhere = new Map(); // what was strange, and turned out not to
    this.arrived = 0;
    this.took = 0;
    // whether a task can come into the page by more than being new
    this.moves = Boolean(parameters.state || parameters.outcome || parameters.stalled);
  }

  close() {
    this.closed = true;
    this.request?.abort();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
  }

  async load() {
    if (this.closed) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.request?.abort();
    const controller = (this.request = new AbortController());
    const asked = this.strange;
    this.strange = new Map();
    this.meanwhile = new Map();
    this.gone.clear();
    this.dirty = false;
    const begun = performance.now();
    try {
      const answer = await request("/v1/tasks" + query({ ...this.parameters, order: "desc", limit: PAGE }), { signal: controller.signal });
      const rows = await answer.json();
      if (controller.signal.aborted) return;
      const link = /[?&]cursor=(\d+)[^>]*>; rel="next"/.exec(answer.headers.get("Link") ?? "");
      this.rows = rows.filter((row) => !this.gone.has(row.taskId));
      this.older = link && link[1];
      this.error = null;
      if (this.elsewhere.size > REMEMBERED) this.elsewhere.clear();
      const found = new Set(rows.map((row) => row.taskId));
      asked.forEach((mark, id) => found.has(id) || this.elsewhere.set(id, mark));
    } catch (error) {
      if (controller.signal.aborted) return;
      this.error = error;
      this.rows ??= [];
    }
    this.took = performance.now() - begun;
    this.request = null;
    // what was heard meanwhile may be newer than the answer, or older: shown now, and asked for once more
    const heard = this.meanwhile;
    this.meanwhile = null;
    this.apply(heard);
    if (heard.size) this.later();
    this.show();
  }

  heard(kind, data) {
    if (kind === "begin") this.load();
    if (kind === "gone") this.left(data.tasks);
    if (kind === "gone" && this.rows?.some((row) => data.tasks.includes(row.taskId))) this.remove(new Set(data.tasks));
    if (kind !== "state") return;
    this.news.set(data.taskId, data);
    this.meanwhile?.set(data.taskId, data);
    this.listening.forEach((heard) => heard.set(data.taskId, data));
    if (!fits(this.parameters, data)) this.elsewhere.delete(data.taskId); // it may come here another time
    this.frame ??= requestAnimationFrame(() => {
      const news = this.news;
      this.frame = null;
      this.news = new Map();
      if (this.rows !== null) this.apply(news);
      this.show();
    });
  }

  apply(news) {
    const shown = new Set(this.rows.map((row) => row.taskId));
    if (this.rows.some((row) => news.has(row.taskId))) {
      const before = this.rows.length;
      this.rows = this.rows.map((row) => (news.has(row.taskId) ? merged(row, news.get(row.taskId)) : row)).filter((row) => fits(this.parameters, row));
      // of a short run no event told when it began
      const unknown = (row) => row.outcome && !row.startedAt && news.has(row.taskId);
      if (this.rows.length < before || this.rows.some(unknown)) this.later();
    }
    if (this.parameters.cursor && !this.moves) return; // nothing new comes into an older page
    for (const [id, event] of news) {
      const mark = this.moves ? `${event.state} ${event.outcome} ${Boolean(event.stalled)}` : "";
      if (shown.has(id) || this.elsewhere.get(id) === mark || this.strange.get(id) === mark || !fits(this.parameters, event)) continue;
      this.strange.set(id, mark);
      this.arrived += 1;
      this.later();
    }
  }

  /** Look at the page again, when there is time for it. */
  later() {
    if (this.closed) return;
    this.dirty = true;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      const storm = this.arrived > STORM;
      this.arrived = 0;
      if (this.request) return this.later();
      if (!storm && this.calm()) return this.load();
      this.show();
      return this.later();
    }, Math.max(PAUSE, EASE * this.took));
  }

  /** An answer that is under way may still name them. */
  left(ids) {
    if (this.request) ids.forEach((id) => this.gone.add(id));
  }

  remove(ids) {
    this.left(ids);
    this.rows = this.rows.filter((row) => !ids.has(row.taskId));
    this.show();
    this.later();
  }

  /** Begin to hear what becomes of tasks that are asked for something; ends with `replace`. */
  listen() {
    const heard = new Map();
    this.listening.add(heard);
    return heard;
  }

  /** Show tasks as they were when they answered. What was `heard` since they were asked may be newer, and is shown over
   *  that; where it is older, another event is still to come. */
  replace(answers, heard) {
    this.listening.delete(heard);
    const answered = new Map(answers.map((row) => [row.taskId, row]));
    this.rows = this.rows.map((row) => answered.get(row.taskId) ?? row);
    this.apply(new Map([...heard].filter(([id]) => answered.has(id))));
    this.show();
  }

  show() {
    if (!this.closed) this.tell({ rows: this.rows, older: this.older, error: this.error, more: this.strange.size });
  }
}

/** {rows, older, error, more, feed}: a page of the list. rows: null before the first answer; older: the cursor of the next
 *  page; more: how many other tasks have changed. `calm()` says whether rows may move now. */
export function useFeed(parameters, calm) {
  const [view, setView] = useState({ rows: null, older: null, error: null, more: 0 });
  const feed = useRef(null);
  useEffect(() => {
    const made = (feed.current = new Feed(parameters, { tell: setView, calm }));
    made.load();
    const seen = () => document.hidden || made.load();
    document.addEventListener("visibilitychange", seen);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      made.close();
    };
  }, [JSON.stringify(parameters)]);
  useEvents((kind, data) => feed.current?.heard(kind, data));
  return { ...view, feed: feed.current };
}
