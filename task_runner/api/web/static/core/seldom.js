// Looking again when something has happened, but not for each thing that happens.

import { useEffect, useRef } from "../vendor/htm-preact.js";

class Seldom {
  constructor(pause) {
    this.pause = pause;
    this.asked = false;
    this.timer = null;
    this.looking = null;
  }

  /** `lost`: the connection was; what was asked before may never be answered. */
  ask({ lost = false } = {}) {
    if (this.ended) return;
    if (lost) this.looking = null;
    this.asked = true;
    this.plan();
  }

  plan() {
    if (this.ended || this.looking || !this.asked) return;
    this.timer ??= setTimeout(() => this.turn(), this.pause);
  }

  async turn() {
    this.timer = null;
    this.asked = false;
    const looking = (this.looking = this.look());
    await looking;
    if (this.looking === looking) this.looking = null;
    this.plan();
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
  }
}

/** {ask, end}: `look()`, which promises its end, is called `pause` milliseconds after it was asked for, once for all who
 *  ask meanwhile, and not while another is under way: those that push each other aside would show nothing for as long
 *  as much happens. */
export function useSeldom(look, pause) {
  const kept = useRef(null);
  const seldom = (kept.current ??= new Seldom(pause));
  seldom.look = look;
  useEffect(() => () => seldom.end(), []);
  return seldom;
}
