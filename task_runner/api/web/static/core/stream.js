// A stream of events that is opened again wherever it ends: the browser's own retry gives up on an answer like 503, and
// repeats the address with an old ?after=. It is given up while nobody looks: a browser has six connections to a host,
// and pages in the background shall not hold them. Every return resumes where the stream stood.

import { request } from "./http.js";

const RETRY_AFTER = [500, 1000, 2000, 5000];

export class Stream {
  /** `address(last)`: what to ask for behind an event, or from the beginning (null). `on`: {kind: heard(data, id)}.
   *  `contact(there)` is told when a stream begins and when it has ended. */
  constructor(address, on, contact = () => {}) {
    Object.assign(this, { address, on, contact });
    this.last = null;
    this.failures = 0;
    this.turn = () => (document.hidden ? this.close() : this.open());
  }

  begin() {
    document.addEventListener("visibilitychange", this.turn);
    this.open();
  }

  end() {
    document.removeEventListener("visibilitychange", this.turn);
    this.close();
    this.last = null;
  }

  open() {
    clearTimeout(this.retry);
    if (this.source || document.hidden) return;
    const source = (this.source = new EventSource(this.address(this.last)));
    source.onopen = () => {
      this.failures = 0;
      this.contact(true);
    };
    for (const [kind, heard] of Object.entries(this.on)) {
      source.addEventListener(kind, (event) => {
        this.last = event.lastEventId || this.last;
        heard(JSON.parse(event.data), event.lastEventId);
      });
    }
    source.onerror = () => {
      const refused = source.readyState === EventSource.CLOSED;
      this.close();
      this.contact(false);
      if (refused) this.askWhy();
      else this.later();
    };
  }

  close() {
    clearTimeout(this.retry);
    this.why?.abort();
    this.source?.close();
    this.source = null;
  }

  later() {
    this.retry = setTimeout(() => this.open(), RETRY_AFTER[Math.min(this.failures++, RETRY_AFTER.length - 1)]);
  }

  /** The browser does not tell what the refusal was: nobody is signed in any more, what it tells of is gone, or another. */
  async askWhy() {
    const asked = (this.why = new AbortController());
    try {
      await request(this.address(this.last), { signal: asked.signal });
    } catch (error) {
      if (error.status === 404) return;
    }
    if (asked.signal.aborted) return;
    asked.abort(); // should it be answered now, that is not read
    this.later();
  }
}
