// A row of output as text nodes. Colours become classes or properties of CSSOM; a log can name no element, link or style.

import { createColorPalette, namedColors, parseAnsiSequences } from "../vendor/ansi-sequence-parser.js";

// CSI; then OSC, DCS, SOS, PM, APC with what they carry; any other escape; control characters and marks that turn text around
const CONTROL =
  /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const ANY = new RegExp(CONTROL.source);
/** Moves of the cursor, erasing, modes: what a terminal would do for a progress bar, and nothing that could be shown here. */
const MOVES = /[A-HJKSTfhlsu]/;
const palette = createColorPalette();
const MOST_STATE = 200;
const ESCAPE = 27;
/** what switches colours, at the beginning of some bytes */
const SWITCH = /^\x1b\[([\d;:]*)[ -/]*m/;
const LONGEST_SWITCH = 100;

/** Append a row's text to an element. `state`: the colours that the rows before left switched on; returns those after it. */
export function write(element, text, state) {
  const passes = text.split("\r").filter((each) => each !== "");
  for (const hidden of passes.slice(0, -1)) state = pieces(hidden, state, () => {});
  if (passes.length > 1) {
    const note = span(`↺${passes.length - 1} `, "ctl over");
    note.title = `this line was written over ${passes.length - 1} times`;
    element.append(note);
  }
  return pieces(passes.at(-1) ?? "", state, (node) => element.append(node));
}

function pieces(text, state, put) {
  if (!ANY.test(text)) {
    shown(text, state, put);
    return state;
  }
  let at = 0;
  for (const match of text.matchAll(CONTROL)) {
    shown(text.slice(at, match.index), state, put);
    at = match.index + match[0].length;
    if (match[2] === "m" && /^[\d;:]*$/.test(match[1])) state = switched(state, match[1]);
    else if (!MOVES.test(match[2] ?? "")) put(span(picture(match[0]), "ctl"));
  }
  shown(text.slice(at), state, put);
  return state;
}

/** The colours that are on behind these pieces of a log, sought from their end backwards to the last reset. `state`: those
 *  on before them; "" where that is not known, as it is behind a gap. */
export function coloursAfter(pieces, state = "") {
  const found = [];
  let [length, next] = [0, ""];
  for (const { gap, bytes } of [...pieces].reverse()) {
    if (gap) return found.reduceRight(switched, "");
    for (let at = bytes.length; at > 0 && (at = bytes.lastIndexOf(ESCAPE, at - 1)) >= 0; ) {
      const match = SWITCH.exec(latin(bytes, at) + next);
      if (!match) continue;
      found.push(match[1]);
      length += match[0].length;
      const enough = length > MOST_STATE || !switched("before", match[1]).startsWith("before");
      if (enough) return found.reduceRight(switched, "");
    }
    next = latin(bytes, 0);
  }
  return found.reduceRight(switched, state);
}

const latin = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + LONGEST_SWITCH));

/** The state after one SGR sequence: the sequences since the last reset, one behind the other. */
function switched(state, parameters) {
  const codes = parameters.replace(/([34]8):(2):[^:;]*:(\d+:\d+:\d+)/g, "$1:$2:$3").split(/[;:]/).map((code) => code || "0");
  const reset = codes.lastIndexOf("0");
  const plain = !codes.includes("38") && !codes.includes("48"); // within a colour, 0 is no reset
  if (plain && reset >= 0) {
    codes.splice(0, reset + 1);
    state = "";
  }
  if (codes.length === 0) return state;
  const all = `${state}\x1b[${codes.join(";")}m`;
  return all.length <= MOST_STATE ? all : all.slice(all.indexOf("\x1b", all.length - MOST_STATE));
}

function shown(text, state, put) {
  if (text === "") return;
  if (state === "") {
    put(document.createTextNode(text));
    return;
  }
  for (const token of parseAnsiSequences(state + text)) put(styled(token));
}

function styled({ value, foreground, background, decorations }) {
  const classes = [...decorations].filter((each) => each !== "reverse" && each !== "hidden");
  let [fore, back] = decorations.has("reverse") ? [background, foreground] : [foreground, background];
  if (decorations.has("reverse") && !back) classes.push("reverse");
  const element = span(value, "");
  if (back) {
    const ground = palette.value(back) ?? "#000000";
    const ink = fore && palette.value(fore);
    element.style.backgroundColor = ground;
    element.style.color = ink && contrast(ink, ground) >= 3 ? ink : contrast("#000000", ground) > 4.6 ? "#000000" : "#ffffff";
  } else if (fore) {
    const name = fore.type === "named" ? fore.name : fore.type === "table" && fore.index < 16 ? namedColors[fore.index] : null;
    if (name) classes.push(`ink-${name}`);
    else {
      classes.push("ink");
      element.style.setProperty("--ink", palette.value(fore) ?? "inherit");
    }
  }
  element.className = classes.join(" ");
  return element;
}

function luminance(colour) {
  const parts = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255);
  const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

/** Control characters as terminals write them: ^[ for escape; ⟨U+202E⟩ for what cannot be seen either. */
function picture(text) {
  return Array.from(text, (each) => {
    const code = each.codePointAt(0);
    if (code < 0x20 || code === 0x7f) return `^${String.fromCodePoint(code ^ 0x40)}`;
    const unseen = (code >= 0x80 && code < 0xa0) || /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(each);
    return unseen ? `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩` : each;
  }).join("");
}

function span(text, kind) {
  const element = document.createElement("span");
  element.className = kind;
  element.append(text);
  return element;
}
