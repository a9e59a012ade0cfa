// A line that is worse than the one you have: ?sim=wifi delays, varies and loses messages before they reach the page.

/** One-way milliseconds, and the share of messages that a stream would have to send again. */
export const PROFILES = {
  lan: { delay: 1, jitter: 1, loss: 0 },
  wifi: { delay: 12, jitter: 8, loss: 0.01 },
  "4g": { delay: 35, jitter: 15, loss: 0.02 },
  "3g": { delay: 90, jitter: 40, loss: 0.05 },
  transatlantic: { delay: 50, jitter: 4, loss: 0.005 },
  satellite: { delay: 300, jitter: 30, loss: 0.02 },
};

/** One direction of such a line. It keeps the order, as TCP does: what is late holds up what follows. */
export class SlowLine {
  constructor(profile, deliver, { random = Math.random, now = () => performance.now(), later = setTimeout } = {}) {
    Object.assign(this, { profile, deliver, random, now, later });
    this.lastArrival = 0;
  }

  send(data) {
    if (this.profile === null) {
      this.deliver(data);
      return;
    }
    const { delay, jitter, loss } = this.profile;
    const late = -Math.log(1 - this.random()) * jitter;
    const again = this.random() < loss ? 2 * delay + jitter : 0;
    this.lastArrival = Math.max(this.lastArrival, this.now() + delay + late + again);
    this.later(() => this.deliver(data), this.lastArrival - this.now());
  }
}

/** The profile that an address asks for; null for the line as it is. Unknown names are the line as it is, too. */
export function profileOf(search) {
  return PROFILES[new URLSearchParams(search).get("sim")] ?? null;
}
