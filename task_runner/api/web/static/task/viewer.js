// What the log viewer does: which part of the log is in the window, and how that follows the end.

import { coloursAfter } from "./ansi.js";
import { Follower } from "./follower.js";
import { endOf, Reader } from "./reader.js";
import { countLines, firstLines, lastLines, partialLine, splitAt } from "./rows.js";
import { MOST_AT_ONCE, View } from "./view.js";
import { Waiting } from "./waiting.js";

const BLOCK = 128 * 1024;
/** bytes before what is shown in which is looked for the colours that are on there */
const BACK = 128 * 1024;
const NEAR = 800; // pixels from an end of the window at which more is read

export class Viewer {
  /** `heard(facts)` is told {following, news, top, from, to, end, contact, over, error} whenever they change. */
  constructor(element, { id, attempt, stream }, heard) {
    this.reader = new Reader(id, attempt, stream);
    this.follower = new Follower(this.reader, { arrived: (piece) => this.arrived(piece), changed: () => this.tell() });
    this.view = new View(element);
    this.heard = heard;
    this.following = false;
    this.news = 0; // lines that came while one read elsewhere
    this.error = null;
    this.opened = false;
    this.moving = null; // the move that is under way; `late`: what has arrived since it asked for the end
    this.waiting = new Waiting();
    this.lastTop = 0;
    this.lastDrawn = 0;
    this.stopped = new AbortController();
    this.loading = false;
    this.asked = false; // more may have to be read, by what was seen during a load
    const options = { signal: this.stopped.signal, passive: true };
    element.addEventListener("scroll", () => this.scrolled(), options);
    element.addEventListener("wheel", (event) => event.deltaY < 0 && this.unpin(), options);
    this.sizes = new ResizeObserver(() => this.relaid());
    this.sizes.observe(element);
  }

  /** Show the end, or the place of a byte, and stay with what is written. `over`: no more will be. */
  async open({ size, over, at = null, begin = false }) {
    Object.assign(this.follower, { end: size, over });
    if (at === null) await this.goToEnd();
    else await this.goTo(at, { begin });
    this.opened = true;
    this.follower.run();
  }

  close() {
    this.stopped.abort();
    this.sizes.disconnect();
    this.follower.close();
    this.view.clear(0);
  }

  // -- what is new

  arrived(piece) {
    const joins = this.ahead === piece.offset;
    this.moving?.late?.add(piece);
    if (!this.following) this.news += piece.gap ? 1 : countLines(piece.bytes);
    if (joins && (this.following || !this.view.full)) this.wait(piece);
    else this.tellSoon();
  }

  /** All before it has been seen by the follower. */
  get end() {
    return this.follower.end;
  }

  /** The offset behind what is in the window or waits for it. */
  get ahead() {
    const last = this.waiting.pieces.at(-1);
    return last ? endOf(last) : this.view.to;
  }

  wait(piece) {
    this.waiting.add(piece);
    // after events of scrolling and before the picture: who scrolls up is never pulled back
    if (this.frame === undefined) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    const { pieces } = this.waiting;
    this.waiting = new Waiting();
    if (pieces.length === 0 || this.stopped.signal.aborted) return;
    const { view } = this;
    const lines = pieces.reduce((sum, piece) => sum + (piece.gap ? 1 : countLines(piece.bytes)), 0);
    this.speak(this.following && lines < 5);
    if (pieces[0].offset === view.to && lines <= MOST_AT_ONCE) view.append(pieces);
    else if (this.following) this.restart(pieces, pieces[0].offset === view.to ? view.colours : "");
    else if (pieces[0].offset === view.to) view.append(firstLines(pieces, MOST_AT_ONCE));
    // else so much has come that some of it was let go: it is read again when one gets there
    if (this.following) {
      view.trimTop();
      view.toEnd();
    }
    this.settled();
  }

  /** Have new output read out, unless that would never end. */
  speak(wanted) {
    const now = performance.now();
    this.view.element.setAttribute("aria-live", wanted && now - this.lastDrawn > 1000 ? "polite" : "off");
    this.lastDrawn = now;
  }

  /** Begin anew with the last lines of these pieces; `colours` are on before them. */
  restart(pieces, colours) {
    this.place(lastLines(pieces, MOST_AT_ONCE), { read: pieces, colours });
  }

  /** Show these pieces and nothing else; half a line at the beginning is left out unless it has the byte `needed`. They
   *  are some of those `read`, which tell what colours are on. */
  place(pieces, { read, colours = "", needed = 0 }) {
    this.waiting = new Waiting();
    const [first] = pieces;
    const skip = !first || first.gap || first.offset === 0 ? 0 : partialLine(first.bytes, needed ? needed - first.offset : undefined);
    const from = first ? first.offset + skip : this.end;
    this.view.clear(from, coloursAfter(splitAt(read, from)[0], colours));
    if (skip > 0) pieces[0] = { offset: first.offset + skip, bytes: first.bytes.subarray(skip) };
    this.view.append(pieces);
  }

  settled() {
    this.lastTop = this.view.element.scrollTop;
    this.tell();
  }

  // -- moving

  scrolled() {
    const { view } = this;
    const { below } = this;
    const { scrollTop } = view.element;
    if (scrollTop < this.lastTop && below >= 1) this.following = false;
    else if (scrollTop > this.lastTop && below < 8 && this.ahead === this.end) this.pin();
    this.lastTop = scrollTop;
    if (scrollTop < NEAR && view.from > 0) this.later(() => this.loadBefore());
    else if (below < NEAR && this.ahead < this.end) this.later(() => this.loadBehind());
    this.tellSoon();
  }

  pin() {
    this.following = true;
    this.news = 0;
  }

  /** Do not follow any longer. */
  stay() {
    this.following = false;
    this.tell();
  }

  /** Rows have got another height, or the window has: what was read stays where it is. */
  relaid() {
    if (this.following) this.view.toEnd();
    else this.view.relaid();
    this.lastTop = this.view.element.scrollTop;
  }

  unpin() {
    if (this.view.element.scrollHeight > this.view.element.clientHeight) this.following = false;
  }

  /** One load after the other; the same is not asked for twice. Who has come to the other end meanwhile scrolls no
   *  further, so that it is looked at again after the load. */
  later(load) {
    this.asked = this.loading;
    if (this.loading) return;
    this.loading = true;
    load()
      .catch((error) => this.failed(error))
      .finally(() => {
        this.loading = false;
        if (this.asked && !this.stopped.signal.aborted) this.scrolled();
      });
  }

  async read(start, end) {
    const pieces = await this.reader.read(start, end, this.stopped.signal);
    this.error = null;
    return pieces;
  }

  failed(error) {
    if (this.stopped.signal.aborted || error.name === "AbortError") return;
    this.error = error;
    this.tell();
  }

  /** Pixels of the window below what is seen. */
  get below() {
    const { scrollTop, scrollHeight, clientHeight } = this.view.element;
    return scrollHeight - scrollTop - clientHeight;
  }

  // what comes for an end that one has left again would push out at the other end what one reads there: it is dropped

  async loadBefore() {
    const { view } = this;
    const behind = view.from;
    const from = Math.max(0, behind - BLOCK);
    const pieces = await this.read(Math.max(0, from - BACK), behind);
    if (view.from !== behind || pieces.length === 0 || view.element.scrollTop >= NEAR) return;
    this.speak(false);
    view.prepend(pieces, from);
    if (!this.following) view.keep(() => view.trimBottom());
    this.settled();
  }

  async loadBehind() {
    const { view } = this;
    const from = view.to;
    const pieces = await this.read(from, Math.min(from + BLOCK, this.end));
    if (view.to !== from || this.waiting.pieces.length > 0 || this.below >= NEAR) return;
    this.speak(false);
    view.append(firstLines(pieces, MOST_AT_ONCE));
    view.trimTop();
    this.settled();
  }

  /** Show the place of a byte; `found`: in the middle, and marked; `begin`: at the top, and marked. */
  async goTo(offset, { found = false, begin = false } = {}) {
    this.following = false;
    const { view } = this;
    const move = (this.moving = {});
    if (!view.holds(offset)) {
      const from = Math.max(0, offset - BLOCK / 2);
      const read = await this.readFor(move, Math.max(0, from - BACK), Math.max(from, Math.min(offset + BLOCK, this.end)));
      if (this.moving !== move) return;
      this.speak(false);
      const [before, behind] = splitAt(splitAt(read, from)[1], offset);
      this.place([...lastLines(before, MOST_AT_ONCE / 2), ...firstLines(behind, MOST_AT_ONCE)], { read, needed: offset });
    }
    view.show(offset, { found, begin });
    if (!found && this.below < 8 && this.ahead === this.end) this.pin(); // the end is seen, too
    this.moving = null;
    this.settled();
    this.scrolled();
  }

  async goToEnd() {
    const { view } = this;
    const move = (this.moving = { late: new Waiting() });
    if (this.ahead !== this.end || view.rows.length === 0) {
      const end = this.end;
      const read = await this.readFor(move, Math.max(0, end - BLOCK - BACK), end);
      if (this.moving !== move) return;
      this.speak(false);
      this.place(lastLines(splitAt(read, end - BLOCK)[1], MOST_AT_ONCE), { read });
      move.late.pieces.forEach((piece) => this.wait(piece)); // else the window would never meet the end again
    }
    this.pin();
    view.toEnd();
    this.moving = null;
    this.settled();
  }

  /** What a move has to read first; without an answer there is no move. */
  async readFor(move, start, end) {
    try {
      return await this.read(start, end);
    } catch (error) {
      if (this.moving === move) this.moving = null;
      throw error;
    }
  }

  // -- telling

  tellSoon() {
    this.soon ??= setTimeout(() => this.tell(), 100);
  }

  tell() {
    clearTimeout(this.soon);
    this.soon = undefined;
    if (this.stopped.signal.aborted) return;
    const { opened, following, news, view } = this;
    const { end, over, contact } = this.follower;
    const error = this.error ?? this.follower.error;
    view.reading = view.top;
    this.heard({ opened, following, news, end, over, contact, error, top: view.top, from: view.from, to: view.to });
  }
}
