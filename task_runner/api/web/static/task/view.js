// The rows of the log that exist in the page: a window of it, however long the log is.

import { count } from "../core/format.js";
import { coloursAfter, write } from "./ansi.js";
import { joined, lastLines, partialLine, rowsOf, splitAt } from "./rows.js";
import { endOf } from "./reader.js";

const MOST_ROWS = 2000;
/** lines that are taken in by one step: fewer than rows, so that what is being read stays */
export const MOST_AT_ONCE = 1000;
const MOST_BYTES = 768 * 1024;
const NOTHING = new Uint8Array(0);
const bytesIn = (row) => (row.gap ? 0 : row.end - row.start);

export class View {
  constructor(element) {
    this.element = element;
    this.pattern = null;
    this.clear(0);
  }

  /** Show nothing; what is appended next stands at `offset`, where these colours are on. */
  clear(offset, colours = "") {
    this.rows = [];
    this.size = 0; // bytes in the rows, gaps not counted
    this.from = this.to = offset;
    this.reading = offset; // the offset of the first row that was seen last
    this.unfinished = NOTHING; // the bytes of the last row, while its line feed has not come
    this.state = colours; // those that are on before the unfinished row; "" where it is not known
    this.element.replaceChildren();
    this.marked = null;
    this.matches?.clear();
  }

  /** No more of the log is taken in at the end, unless rows at the top are let go. */
  get full() {
    return this.rows.length >= MOST_ROWS || this.size >= MOST_BYTES;
  }

  append(pieces) {
    for (const piece of pieces) {
      if (piece.gap) this.appendGap(piece);
      else this.appendBytes(piece.bytes);
      this.to = endOf(piece);
    }
  }

  /** The colours that are on behind the last row. */
  get colours() {
    return coloursAfter([{ bytes: this.unfinished }], this.state);
  }

  appendBytes(bytes) {
    let begins = this.rows.at(-1)?.ends ?? true;
    let offset = this.to;
    if (this.unfinished.length > 0) {
      const last = this.remove();
      this.drop(last);
      bytes = joined(this.unfinished, bytes);
      [offset, begins] = [last.start, last.begins];
    }
    const rows = rowsOf(bytes, offset, begins);
    const last = rows.at(-1);
    this.unfinished = last && !last.ends ? bytes.slice(last.start - offset) : NOTHING;
    this.state = this.draw(rows, this.state);
    this.element.append(...rows.map((row) => row.element));
    rows.forEach((row) => this.add(row));
  }

  /** Make the elements of rows that follow one another; returns the colours before the next, or before one that is
   *  unfinished, which may be written anew. */
  draw(rows, state) {
    for (const row of rows) {
      row.element = document.createElement("div");
      row.element.className = row.begins ? "line" : "line rest";
      row.element.dataset.at = row.start;
      row.before = state;
      state = write(row.element, row.text, state);
      delete row.text;
      this.mark(row);
    }
    return rows.length > 0 && !rows.at(-1).ends ? rows.at(-1).before : state;
  }

  appendGap(piece) {
    const row = this.gapRow(piece);
    this.unfinished = NOTHING;
    this.state = "";
    this.element.append(row.element);
    this.add(row);
  }

  gapRow({ offset, gap }) {
    const element = document.createElement("div");
    element.className = "gap";
    element.setAttribute("role", "note");
    element.append(`${count(gap, "byte")} not kept`);
    return { start: offset, end: offset + gap, begins: true, ends: true, gap, element, before: "" };
  }

  /** Rows before the window. The pieces end where it begins; of what they have before `from` only the colours count. What
   *  stands before the first line feed is left for later, unless it is all there is. */
  prepend(pieces, from) {
    const rows = [];
    lastLines(splitAt(pieces, from)[1], MOST_AT_ONCE).forEach((piece, i) => {
      if (piece.gap) rows.push(this.gapRow(piece));
      else {
        const skip = i === 0 && piece.offset > 0 ? partialLine(piece.bytes) : 0;
        const begins = piece.offset === 0 || skip > 0 || i > 0;
        rows.push(...rowsOf(piece.bytes.subarray(skip), piece.offset + skip, begins));
      }
    });
    for (let at = 0, end; at < rows.length; at = end + 1) {
      end = rows.findIndex((row, i) => i >= at && row.gap);
      if (end < 0) end = rows.length;
      this.draw(rows.slice(at, end), at > 0 ? "" : coloursAfter(splitAt(pieces, rows[0].start)[0]));
    }
    this.keep(() => {
      this.element.prepend(...rows.map((row) => row.element));
      this.rows.unshift(...rows);
    });
    rows.forEach((row) => (this.size += bytesIn(row)));
    if (rows.length > 0) this.from = rows[0].start;
  }

  /** Let rows at the top go until the window is small enough again. */
  trimTop() {
    let spare = Math.max(0, this.rows.length - MOST_ROWS);
    for (const row of this.rows.slice(0, spare)) this.size -= bytesIn(row);
    while (this.size > MOST_BYTES && spare < this.rows.length - 1) this.size -= bytesIn(this.rows[spare++]);
    if (spare === 0) return;
    this.keep(() => this.rows.splice(0, spare).forEach((row) => this.drop(row)));
    this.from = this.rows[0].start;
  }

  trimBottom() {
    if (!this.tooMuch) return;
    while (this.tooMuch && this.rows.length > 1) {
      const last = this.remove();
      this.state = last.before;
      this.drop(last);
    }
    this.to = this.rows.at(-1).end;
    this.unfinished = NOTHING;
  }

  get tooMuch() {
    return this.rows.length > MOST_ROWS || this.size > MOST_BYTES;
  }

  remove() {
    const row = this.rows.pop();
    this.size -= bytesIn(row);
    return row;
  }

  drop(row) {
    row.element.remove();
    row.ranges?.forEach((range) => this.matches.delete(range));
  }

  add(row) {
    this.rows.push(row);
    this.size += bytesIn(row);
  }

  /** Change what is there without moving what is being read. */
  keep(change) {
    const row = this.rows[this.indexAt(this.element.scrollTop)];
    const before = row && row.element.offsetTop - this.element.scrollTop;
    change();
    if (row?.element.isConnected) this.element.scrollTop = row.element.offsetTop - before;
  }

  /** The row at so many pixels from the top of the window. */
  indexAt(pixels) {
    let [low, high] = [0, this.rows.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.rows[middle].element.offsetTop <= pixels + 1) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The offset of the first row that is seen. */
  get top() {
    return this.rows[this.indexAt(this.element.scrollTop)]?.start ?? this.from;
  }

  rowOf(offset) {
    return this.rows.find((row) => offset < row.end) ?? this.rows.at(-1);
  }

  /** Whether a byte is in the window. */
  holds(offset) {
    return this.rows.length > 0 && offset >= this.from && offset < this.to;
  }

  /** Bring a byte's row to the top. `found`: to the middle, and marked. `begin`: marked at the top. */
  show(offset, { found = false, begin = false } = {}) {
    const row = this.rowOf(offset);
    this.marked?.classList.remove("found");
    this.marked = null;
    if (!row) return;
    const { element } = this;
    element.scrollTop = row.element.offsetTop - (found ? element.clientHeight / 2 : 0);
    if (!found && !begin) return;
    this.marked = row.element;
    row.element.classList.add("found");
  }

  /** To be called when rows have got another height: what was read stays where it is. */
  relaid() {
    const row = this.rowOf(this.reading);
    if (row) this.element.scrollTop = row.element.offsetTop;
  }

  toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** Mark what matches in the rows that are shown; null: nothing. */
  highlight(pattern) {
    this.pattern = pattern;
    this.matches?.clear();
    for (const row of this.rows) this.mark(row);
  }

  mark(row) {
    row.ranges = [];
    if (!this.pattern || !globalThis.CSS?.highlights) return;
    if (!this.matches) CSS.highlights.set("log-match", (this.matches = new Highlight()));
    const walker = document.createTreeWalker(row.element, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (const match of node.data.matchAll(this.pattern)) {
        if (match[0] === "") continue;
        const range = new StaticRange({ startContainer: node, startOffset: match.index, endContainer: node, endOffset: match.index + match[0].length });
        row.ranges.push(range);
        this.matches.add(range);
      }
    }
  }
}
