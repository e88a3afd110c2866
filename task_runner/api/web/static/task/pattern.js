// What a search looks for: in the bytes of the log, and in the rows that are shown.

const LATIN = new TextDecoder("windows-1252"); // one character for each byte
/** Bytes as characters, so that the place of a character is an offset. */
export const asText = (bytes) => LATIN.decode(bytes);
const utf8 = (text) => asText(new TextEncoder().encode(text));
const exactly = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

/** The expression for text made by `asText`. Letters A to Z match in either case. Throws SyntaxError. */
export function patternOf(text, isExpression) {
  if (isExpression) return new RegExp(text.replace(/[^\x00-\x7f]+/gu, (each) => `(?:${utf8(each)})`), "gim");
  return new RegExp(utf8(exactly(text)).replace(/[a-z]/gi, (each) => `[${each.toLowerCase()}${each.toUpperCase()}]`), "g");
}

/** What is marked in the rows. */
export function markOf(text, isExpression) {
  return new RegExp(isExpression ? text : exactly(text), "gi");
}
