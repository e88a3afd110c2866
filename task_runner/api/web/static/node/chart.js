// One chart of the history. uPlot draws; what it shows is said in words beside it.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import uPlot from "../vendor/uPlot.esm.js";
import { colours, onPalette } from "../timeline/picture.js";

const HEIGHT = 150;

/** ``lines``: [name, column, colour]; ``of``: the column with what there is in all; ``top``: the same as a number;
 *  ``whole``: only whole numbers make sense. */
export function Chart({ title, lines, show, of, top, whole, history, hours }) {
  const place = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const [palette, setPalette] = useState(colours);
  const shown = lines.filter(([, column]) => history[column]?.some((value) => value !== null));
  const limit = top ?? (of ? lastOf(history[of]) : null);
  const data = [history.at, ...shown.map(([, column]) => history[column])];
  const latest = useRef(null); // what the chart asks for whenever it draws
  latest.current = { hours, limit, whole };
  const made = `${shown.map(([name]) => name)} ${Object.values(palette)}`;
  useEffect(() => onPalette(setPalette), []);
  useEffect(() => {
    if (!shown.length) return undefined;
    const width = () => place.current?.clientWidth || 300;
    plot.current = new uPlot({ width: width(), height: HEIGHT, ...options({ shown, show, palette, latest, setAt }) }, data, place.current);
    const size = new ResizeObserver(() => plot.current.setSize({ width: width(), height: HEIGHT }));
    size.observe(place.current);
    return () => {
      size.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [made]);
  // the same chart shows the next look, so that nothing flickers and a pointer over it stays where it is
  useEffect(() => plot.current?.setData(data), [history, hours]);
  const known = at !== null && at < history.at.length;
  const index = known ? at : history.at.length - 1;
  const words = shown.map(([name, column]) => `${name} ${show(history[column][index] ?? null)}`).join(", ");
  const when = known ? new Date(history.at[at] * 1000).toLocaleTimeString([], { hour12: false }) : "now";
  return html`<figure class="card chart">
    <figcaption><h2>${title}</h2><p class="soft numbers">${shown.length ? html`${when}: ${words}${limit && of ? ` of ${show(limit)}` : ""}` : "not known yet"}</p></figcaption>
    <div ref=${place} class="plot" aria-hidden="true"></div>
    ${shown.length > 1 && html`<p class="hint">${shown.map(([name, , colour]) => html`<span class="key ${colour}"></span>${name} `)}</p>`}
  </figure>`;
}

function options({ shown, show, palette, latest, setAt }) {
  const axis = { stroke: palette.soft, grid: { stroke: palette.line, width: 0.5 }, ticks: { stroke: palette.line, width: 0.5 } };
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  const past = () => [Date.now() / 1000 - latest.current.hours * 3600, Date.now() / 1000];
  const upTo = (_, _low, high) => [0, latest.current.limit || roundedUp(high ?? 0, latest.current.whole)];
  return {
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false } },
    scales: { x: { range: past }, y: { range: upTo } },
    axes: [
      { ...axis, size: 28, values: (_, splits) => splits.map(clock) },
      { ...axis, size: 74, splits: (_, _axis, low, high) => [low, (low + high) / 2, high], values: (_, splits) => splits.map(show) },
    ],
    series: [{}, ...shown.map(([name, , colour]) => ({ label: name, stroke: palette[colour], width: 1.5, points: { show: false }, fill: shown.length === 1 ? `${palette[colour]}22` : undefined }))],
    hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? null)] },
  };
}

/** A round number that is not below it, for the end of an axis whose middle is named, too. */
export function roundedUp(value, whole = false) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, whole ? 2 : 1)));
  const steps = [1, 2, 4, 5, 8, 10].map((n) => n * power).filter((n) => !whole || n % 2 === 0);
  return steps.find((n) => n >= value);
}

function lastOf(column) {
  return column?.findLast((value) => value !== null) ?? null;
}
