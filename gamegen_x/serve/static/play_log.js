// What a page saw of its own play, for scripts that measure it: the pictures it showed and the keys that were pressed.

const MOST_KEPT = 4096; // of each kind, until they are taken: the oldest are forgotten
const PATIENCE_MS = 2000; // a press whose keys were not sent for so long gets no tick any more

export class PlayLog {
  constructor() {
    this.pictures = [];
    this.presses = [];
    this.waiting = [];
  }

  /** A picture is shown now: of which tick, the newest tick of this player's keys that it reflects, and its age. */
  picture(at, tick, reflects, ageMs) {
    keep(this.pictures, { at, tick, reflects, ageMs });
  }

  /** A key went down, as a bit; keys up to `lastTick` were sent before. */
  press(at, bit, lastTick) {
    keep(this.waiting, { at, bit, lastTick });
  }

  /** Looks at the keys that were sent, by tick, for the tick at which each press acts; null where it never does. */
  settle(now, keys) {
    this.waiting = this.waiting.filter(({ at, bit, lastTick }) => {
      const ticks = [...keys].filter(([tick, bits]) => tick > lastTick && bits & bit).map(([tick]) => tick);
      if (!ticks.length && now - at < PATIENCE_MS) return true;
      keep(this.presses, { at, tick: ticks.length ? Math.min(...ticks) : null });
      return false;
    });
  }

  /** All that is new since the last call. */
  take() {
    const { pictures, presses } = this;
    this.pictures = [];
    this.presses = [];
    return { pictures, presses };
  }
}

function keep(list, item) {
  list.push(item);
  if (list.length > MOST_KEPT) list.shift();
}
