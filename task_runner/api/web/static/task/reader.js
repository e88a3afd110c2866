// The bytes of one stream of one attempt: by ranges, or followed as they are written.
//
// Followed by fetch and not by EventSource: bytes come as they are and not in base64, the offset to go on at is counted
// here byte by byte, and a page that is slow makes the daemon wait instead of filling the browser's memory.

import { get, query, request, route } from "../core/http.js";

/** A piece is {offset, bytes: Uint8Array} or {offset, gap: how many bytes}. */
export const endOf = (piece) => piece.offset + (piece.gap ?? piece.bytes.length);

export class Reader {
  constructor(id, attempt, stream) {
    this.id = id;
    this.attempt = attempt;
    this.stream = stream;
    this.path = route`/v1/tasks/${id}/output`;
  }

  address(more = {}) {
    return this.path + query({ attempt: this.attempt, stream: this.stream, ...more });
  }

  /** The pieces from `start` to before `end`, or to the end of what is there. */
  async read(start, end, signal) {
    const pieces = [];
    let at = start;
    while (at < end) {
      try {
        const response = await request(this.address(), { headers: { Range: `bytes=${at}-${end - 1}` }, signal });
        const bytes = new Uint8Array(await response.arrayBuffer());
        pieces.push({ offset: at, bytes });
        at += bytes.length;
      } catch (error) {
        if (error.status !== 416) throw error;
        const behind = Number(error.headers.get("X-Output-Offset"));
        if (!(behind > at)) break; // nothing is there yet
        const first = pieces.length > 0 ? at : await this.beginOfGap(at);
        pieces.push({ offset: first, gap: behind - first });
        at = behind;
      }
    }
    return pieces;
  }

  /** Where the gap begins that a byte lies in, as far as it is known. */
  async beginOfGap(at) {
    const status = await get(route`/v1/tasks/${this.id}/attempts/${this.attempt}`);
    const told = (this.stream === "stderr" ? status.stderr : status.output)?.gaps ?? [];
    return told.find((gap) => gap.offset <= at && at < gap.offset + gap.bytes)?.offset ?? at;
  }

  /** Yields pieces from an offset on, until the daemon ends the stream: then the task is over, or the daemon goes, or a
   *  gap comes, which is told first if one asks again. */
  async *follow(offset, signal) {
    const response = await request(this.address({ follow: true, gaps: "stop", offset }), { signal });
    let at = Number(response.headers.get("X-Output-Offset") ?? offset);
    if (at > offset) yield { offset, gap: at - offset };
    const body = response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await body.read();
        if (done) return;
        yield { offset: at, bytes: value };
        at += value.length;
      }
    } finally {
      body.cancel().catch(() => {});
    }
  }
}
