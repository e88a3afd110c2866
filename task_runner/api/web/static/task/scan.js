// Searches the whole log, in a thread of its own: the page stays quick, and a search that takes too long is just ended.

import { asText, patternOf } from "./pattern.js";
import { Reader } from "./reader.js";

const BLOCK = 4 * 1024 * 1024;
/** bytes looked at once more together with the next block, where no line ends */
const OVERLAP = 64 * 1024;

let state = null;

async function scan(end) {
  const { reader, pattern } = state;
  while (state.at < end) {
    const pieces = await reader.read(state.at, Math.min(state.at + BLOCK, end));
    if (pieces.length === 0) break;
    for (const piece of pieces) {
      if (piece.gap) [state.rest, state.at] = ["", piece.offset + piece.gap];
      else look(piece, pattern, piece.offset + piece.bytes.length >= end);
    }
  }
  postMessage({ scanned: state.at, offsets: [], done: true });
}

function look(piece, pattern, last) {
  const begin = piece.offset - state.rest.length;
  const text = state.rest + asText(piece.bytes);
  const lineEnd = text.lastIndexOf("\n") + 1;
  const keep = text.length - lineEnd <= OVERLAP ? lineEnd : text.length - OVERLAP;
  const offsets = [];
  for (const match of text.matchAll(pattern)) {
    const offset = begin + match.index;
    if (match[0] === "" || offset < state.seen) continue;
    if (!last && match.index >= keep) break;
    offsets.push(offset);
    state.seen = offset + match[0].length;
  }
  state.rest = text.slice(keep);
  state.at = piece.offset + piece.bytes.length;
  postMessage({ scanned: state.at, offsets, done: false });
}

let turn = Promise.resolve();

/** {begin: {id, attempt, stream, text, isExpression}} and then {end}, again whenever there is more. */
globalThis.onmessage = ({ data }) => {
  if (data.begin) {
    const { id, attempt, stream, text, isExpression } = data.begin;
    state = { reader: new Reader(id, attempt, stream), pattern: patternOf(text, isExpression), at: 0, rest: "", seen: 0 };
  }
  turn = turn.then(() => scan(data.end)).catch((error) => postMessage({ error: error.message }));
};
