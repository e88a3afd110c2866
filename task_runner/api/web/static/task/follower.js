// Following the end of a log, over lost connections and restarts of the daemon: every byte once, or the gap it is in.

import { get, passes, route } from "../core/http.js";
import { isFinal } from "./live.js";
import { endOf } from "./reader.js";

const RETRY = [200, 500, 1000, 2000];

export class Follower {
  /** `arrived(piece)` is given what is new, piece by piece; `changed()` says that `contact`, `over` or `error` has. */
  constructor(reader, { arrived, changed }) {
    Object.assign(this, { reader, arrived, changed });
    this.end = 0; // all bytes before it have arrived, or were there when it began
    this.over = false; // no more will come
    this.contact = true;
    this.error = null;
    this.closed = false;
    this.turned = () => (document.hidden ? this.connection?.abort() : this.wake());
    document.addEventListener("visibilitychange", this.turned);
  }

  wake() {}

  close() {
    this.closed = true;
    document.removeEventListener("visibilitychange", this.turned);
    this.connection?.abort();
    this.wake();
  }

  /** While nobody looks there is no connection: a browser has six to a host, and pages in the background shall not hold them. */
  async run() {
    let failures = 0;
    while (!this.over && !this.closed) {
      if (document.hidden) {
        await new Promise((resolve) => (this.wake = resolve));
        continue;
      }
      const before = this.end;
      await this.once();
      failures = this.end > before ? 0 : failures + 1;
      if (!this.over && !this.closed) await this.pause(RETRY[Math.min(failures, RETRY.length - 1)]);
    }
    if (!this.closed) this.changed();
  }

  pause(milliseconds) {
    return new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, milliseconds);
    });
  }

  async once() {
    this.connection = new AbortController();
    const { signal } = this.connection;
    try {
      for await (const piece of this.reader.follow(this.end, signal)) {
        this.setContact(true);
        this.end = endOf(piece);
        this.arrived(piece);
      }
      this.setContact(true);
      this.over = await this.isOver(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (passes(error)) this.setContact(false);
      else [this.over, this.error] = [true, error];
    }
  }

  /** Whether all has been read that there will be. A stream also ends at a gap, and when the daemon is stopped. */
  async isOver(signal) {
    const task = await get(route`/v1/tasks/${this.reader.id}`, {}, { signal });
    if (!isFinal(task) && task.attempt === this.reader.attempt) return false;
    const written = this.reader.stream === "stderr" ? task.stderr : task.output;
    return task.attempt !== this.reader.attempt || this.end >= (written?.bytes ?? 0);
  }

  setContact(contact) {
    if (this.contact === contact) return;
    this.contact = contact;
    this.changed();
  }
}
