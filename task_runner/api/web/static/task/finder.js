// A search: what the thread that scans has found so far, and which match one is at.

import { patternOf } from "./pattern.js";

/** so many places are remembered (8 MB); those behind are only counted */
const MOST = 1_000_000;

export class Finder {
  /** `heard({count, scanned, done, error})` whenever more is known. Throws SyntaxError of an expression. */
  constructor(source, text, isExpression, heard) {
    patternOf(text, isExpression);
    this.source = { ...source, text, isExpression };
    this.heard = heard;
    this.offsets = new Float64Array(1024);
    this.known = 0;
    this.count = 0;
    this.scanned = 0;
    this.done = false;
    this.error = null;
  }

  /** Search up to an offset; again with a larger one when there is more. */
  scan(end) {
    this.done = false;
    this.heard(this);
    if (this.worker) {
      this.worker.postMessage({ end });
      return;
    }
    this.worker = new Worker(new URL("./scan.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.take(data);
    this.worker.onerror = () => this.take({ error: "the search could not be run" });
    this.worker.postMessage({ begin: this.source, end });
  }

  take({ offsets = [], scanned = this.scanned, done = true, error = null }) {
    this.count += offsets.length;
    for (const offset of offsets.slice(0, MOST - this.known)) {
      if (this.known === this.offsets.length) {
        const larger = new Float64Array(this.known * 2);
        larger.set(this.offsets);
        this.offsets = larger;
      }
      this.offsets[this.known++] = offset;
    }
    Object.assign(this, { scanned, done, error });
    this.heard(this);
  }

  /** The index of the first match not before an offset; as many as are known if there is none. */
  indexFrom(offset) {
    let [low, high] = [0, this.known];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.offsets[middle] < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** End the search; what it has found stays. */
  cancel() {
    this.worker?.terminate();
    this.worker = null;
    this.done = true;
    this.heard(this);
  }

  close() {
    this.heard = () => {};
    this.cancel();
  }
}
