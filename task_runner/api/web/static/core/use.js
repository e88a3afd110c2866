// What tasks use now, as the daemon tells it. Processor time is a counter, so its rate is what lies between two looks:
// of a task that was told of once it is unknown, and it is 0 only where the daemon looked again and found no change.

/** seconds between two looks of the daemon */
export const USE_EVERY = 2;
/** seconds without a look after which a rate is none of now */
const SILENCE = 3 * USE_EVERY;
/** a task in one of these has no processes */
const WITHOUT = ["scheduled", "pending", "exited", "lost"];

/** Of all tasks, for as long as the page has its stream. `clock`: seconds. */
export class Uses {
  constructor(clock = () => performance.now() / 1000) {
    this.clock = clock;
    this.tasks = new Map();
    this.begin();
  }

  /** A stream begins: it tells anew of every task, and what was before it is too long ago to be compared. */
  begin() {
    this.looked = null;
    this.tasks.clear();
  }

  /** One event `use`. */
  look({ monotonicSeconds, tasks }) {
    const seconds = this.looked === null ? null : monotonicSeconds - this.looked;
    for (const known of this.tasks.values()) known.cpus = known.cpuSeconds === null ? null : 0; // unless it is told of now
    for (const [id, [cpuSeconds, rssBytes, processes, outputBytes]] of Object.entries(tasks)) {
      const before = this.tasks.get(id)?.cpuSeconds ?? null;
      const counted = seconds > 0 && before !== null && cpuSeconds !== null && cpuSeconds >= before;
      this.tasks.set(id, { cpuSeconds, rssBytes, processes, outputBytes, cpus: counted ? (cpuSeconds - before) / seconds : null });
    }
    this.looked = monotonicSeconds;
    this.heard = this.clock();
  }

  hear(kind, data) {
    if (kind === "use") this.look(data);
    else if (kind === "stream") this.begin();
    else if (kind === "gone") data.tasks.forEach((id) => this.tasks.delete(id));
    else if (kind === "state" && WITHOUT.includes(data.state)) this.tasks.delete(data.taskId);
  }

  /** {cpuSeconds, rssBytes, processes, outputBytes, cpus: how many processors it keeps busy}, each null where it is not
   *  known; undefined where nothing is. */
  of(id) {
    const known = this.tasks.get(id);
    return known && this.clock() - this.heard > SILENCE ? { ...known, cpus: null } : known;
  }
}
