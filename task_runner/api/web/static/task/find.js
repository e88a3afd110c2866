// The search of a log: a field, how many matches there are, and the way from one to the next.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { count } from "../core/format.js";
import { setQuery, useQuery } from "../core/location.js";
import { Finder } from "./finder.js";
import { markOf } from "./pattern.js";

const NOTHING = { count: 0, known: 0, scanned: 0, done: true, error: null };

/** What is searched for is part of the address (?find=, ?re=1). Returns {field, step, …} for the bar and for keys. */
export function useFind(source, viewer, end) {
  const query = useQuery();
  const [text, isExpression] = [query.get("find") ?? "", query.get("re") === "1"];
  const [found, setFound] = useState(NOTHING);
  const [current, setCurrent] = useState(null);
  const finder = useRef(null);
  const wanted = useRef(0); // the way to go as soon as there is a match
  const at = useRef(null);
  const first = useRef(true);
  const field = useRef(null);

  const show = (index) => {
    wanted.current = 0;
    at.current = index;
    setCurrent(index);
    viewer.current?.goTo(finder.current.offsets[index], { found: true }).catch((error) => viewer.current?.failed(error));
  };
  const step = (way) => {
    const { known = 0, done, offsets } = finder.current ?? {};
    if (!finder.current) return field.current?.focus();
    const from = at.current === null ? finder.current.indexFrom(viewer.current.view.top) - (way > 0 ? 1 : 0) : at.current;
    const next = from + way;
    if (offsets && next >= 0 && next < known) return show(next);
    if (!done) wanted.current = way;
    else if (known > 0) show(next < 0 ? known - 1 : 0);
    return undefined;
  };
  const heard = () => {
    const { count: n, known, scanned, done, error } = finder.current;
    setFound({ count: n, known, scanned, done, error });
    if (wanted.current) step(wanted.current);
  };
  useEffect(() => {
    at.current = null;
    setCurrent(null);
    setFound(NOTHING);
    if (!text) {
      first.current = false;
      return undefined;
    }
    try {
      finder.current = new Finder(source, text, isExpression, heard);
      viewer.current.view.highlight(markOf(text, isExpression));
    } catch (error) {
      setFound({ ...NOTHING, error: `not an expression: ${error.message}` });
      return undefined;
    }
    wanted.current = first.current && query.get("at") !== null ? 0 : 1; // a link that names a place shows that place
    first.current = false;
    finder.current.scan(viewer.current.end);
    return () => {
      finder.current.close();
      finder.current = null;
      viewer.current?.view.highlight(null);
    };
  }, [text, isExpression]);
  useEffect(() => {
    if (finder.current?.worker && finder.current.done && end > finder.current.scanned) finder.current.scan(end);
  }, [end, found.done]);
  return { text, isExpression, found, current, field, step, end, cancel: () => finder.current?.cancel() };
}

/** In words: "3 of 12 matches", "12 matches, 45 % searched". */
function told({ text, found, current, end }) {
  if (!text) return "";
  if (found.error) return found.error;
  const part = end > 0 ? Math.min(100, Math.floor((found.scanned / end) * 100)) : 100;
  // of a log that grows, the last lines are always just being searched
  const searched = part >= 99 ? "" : found.done ? `, ${part} % searched` : `, searching: ${part} %`;
  const matches = count(found.count, "match", "matches");
  return `${current === null ? matches : `${(current + 1).toLocaleString("en")} of ${matches}`}${searched}`;
}

export function FindBar({ find, leave }) {
  const [typed, setTyped] = useState(find.text);
  useEffect(() => {
    const timer = setTimeout(() => typed !== find.text && setQuery({ find: typed }), 300);
    return () => clearTimeout(timer);
  }, [typed]);
  const pressed = (event) => {
    if (event.key === "Escape") {
      setTyped("");
      setQuery({ find: null });
      leave();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (typed !== find.text) setQuery({ find: typed });
      else find.step(event.shiftKey ? -1 : 1);
    }
  };
  return html`<div class="row find" role="search" aria-label="In the log">
    <input ref=${find.field} type="search" placeholder="Search the log" aria-label="Search the log" aria-keyshortcuts="/" spellcheck="false"
      value=${typed} onInput=${(event) => setTyped(event.target.value)} onKeyDown=${pressed} />
    <label class="inline"><input type="checkbox" checked=${find.isExpression} onChange=${(event) => setQuery({ re: event.target.checked ? 1 : null })} />
      regular expression</label>
    <button type="button" aria-label="Previous match" aria-keyshortcuts="Shift+N" disabled=${!find.found.known} onClick=${() => find.step(-1)}>↑</button>
    <button type="button" aria-label="Next match" aria-keyshortcuts="n" disabled=${!find.found.known} onClick=${() => find.step(1)}>↓</button>
    <span class="found numbers" role="status">${told(find)}</span>
    ${find.text && !find.found.done && html`<button type="button" onClick=${find.cancel}>Stop searching</button>`}
  </div>`;
}
