// Figures and times as people read them. What is not known is a dash, never 0.

export const UNKNOWN = "–";

/** 0.2 s, 4 m 12 s, 3 h 05 m, 2 d 04 h */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return UNKNOWN;
  const s = Math.max(0, seconds);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** 1.5 MiB */
export function bytes(count) {
  if (count === null || count === undefined) return UNKNOWN;
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(value) < 1024 || unit === "TiB") return unit === "B" ? `${value} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
}

/** Seconds from one stamp to another, or to `now` (milliseconds); null where it has not begun. */
export function between(start, end, now = Date.now()) {
  if (!start) return null;
  return ((end ? Date.parse(end) : now) - Date.parse(start)) / 1000;
}

/** 14:03:22, with the date where it is not today's */
export function moment(stamp) {
  if (!stamp) return UNKNOWN;
  const at = new Date(stamp);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("sv")} ${time}`;
}

/** "3 tasks", "1 task" */
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** The command of a task as a line, or what else it does. */
export function summary(spec) {
  if (!spec) return UNKNOWN;
  const actions = spec.actions ?? [];
  const line = (action) => {
    const parameters = action.parameters ?? {};
    if (parameters.shell) return parameters.shell;
    const command = parameters.command ?? parameters.args;
    if (Array.isArray(command)) return command.join(" ");
    return parameters.image ?? parameters.url ?? action.machine;
  };
  const first = actions.length ? line(actions[0]) : UNKNOWN;
  return actions.length > 1 ? `${first} … (${actions.length} actions)` : first;
}
