// From bytes to rows. A row is a line, or a piece of one that is very long. Offsets count bytes of the log.

/** bytes of one row; a line of 50 MB is shown as many rows, of which only those in the window exist */
export const LONGEST = 4096;
const FEED = 10;
const ESCAPE = 27;

/** Where to cut near `at`: neither within a character of UTF-8 nor, if it can be helped, within an escape sequence. */
export function boundary(bytes, at) {
  let cut = at;
  while (cut > at - 4 && cut > 0 && (bytes[cut] & 0xc0) === 0x80) cut--;
  for (let i = cut - 1; i > Math.max(cut - 32, 0); i--) {
    if (bytes[i] !== ESCAPE) continue;
    for (let j = i + 2; j < cut; j++) if (bytes[j] >= 0x40 && bytes[j] <= 0x7e) return cut;
    return i;
  }
  return cut;
}

/** Rows {start, end, text, begins, ends} of bytes that stand at `offset`. `begins`: a line starts here; `ends`: its line
 *  feed has come. Invalid UTF-8 becomes U+FFFD; of a row that is still being written, the half of a character waits. */
export function rowsOf(bytes, offset, begins = true) {
  const rows = [];
  let feed = -1;
  for (let at = 0; at < bytes.length; ) {
    if (feed < at) feed = bytes.indexOf(FEED, at);
    if (feed < 0) feed = Infinity;
    const whole = Math.min(feed + 1, bytes.length);
    const end = whole - at <= LONGEST ? whole : Math.max(boundary(bytes, at + LONGEST), at + 1);
    const ends = end === feed + 1;
    const shown = bytes.subarray(at, ends ? end - (bytes[end - 2] === 13 && end - 2 >= at ? 2 : 1) : end);
    const text = new TextDecoder().decode(shown, { stream: end === bytes.length && !ends });
    rows.push({ start: offset + at, end: offset + end, text, begins, ends });
    begins = ends;
    at = end;
  }
  return rows;
}

/** How many lines end in these bytes. */
export function countLines(bytes) {
  let lines = 0;
  for (let at = bytes.indexOf(FEED); at >= 0; at = bytes.indexOf(FEED, at + 1)) lines++;
  return lines;
}

/** How many of the first bytes of a block belong to a line that began before it: 0 where no line begins within `most`. */
export function partialLine(bytes, most = bytes.length) {
  const feed = bytes.indexOf(FEED);
  return feed >= 0 && feed < most && feed + 1 < bytes.length ? feed + 1 : 0;
}

/** The last pieces with so many lines. A piece that is cut begins just before the line feed in front of them, as that
 *  is what tells where a line begins. */
export function lastLines(pieces, most) {
  const kept = [];
  for (const piece of [...pieces].reverse()) {
    kept.unshift(piece);
    if (piece.gap) continue;
    let at = piece.bytes.length;
    while (most > 0 && at > 0 && (at = piece.bytes.lastIndexOf(FEED, at - 1)) >= 0) most--;
    if (at <= 0) continue;
    kept[0] = { offset: piece.offset + at, bytes: piece.bytes.subarray(at) };
    break;
  }
  return kept;
}

/** The first pieces with so many lines. */
export function firstLines(pieces, most) {
  const kept = [];
  for (const piece of pieces) {
    kept.push(piece);
    if (piece.gap) continue;
    let at = -1;
    while (most > 0 && (at = piece.bytes.indexOf(FEED, at + 1)) >= 0) most--;
    if (at < 0) continue;
    kept[kept.length - 1] = { offset: piece.offset, bytes: piece.bytes.subarray(0, at + 1) };
    break;
  }
  return kept;
}

/** Pieces split in two at an offset. */
export function splitAt(pieces, offset) {
  const [before, behind] = [[], []];
  for (const piece of pieces) {
    const length = piece.gap ?? piece.bytes.length;
    if (piece.offset + length <= offset) before.push(piece);
    else if (piece.gap || piece.offset >= offset) behind.push(piece);
    else {
      const at = offset - piece.offset;
      before.push({ offset: piece.offset, bytes: piece.bytes.subarray(0, at) });
      behind.push({ offset, bytes: piece.bytes.subarray(at) });
    }
  }
  return [before, behind];
}

export function joined(first, second) {
  if (first.length === 0) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
