// Which tick plays at the server: NTP with a filter for the shortest round trip, followed without jumps.

const NUM_PONGS = 16;
const MAX_SLEW = 0.05; // an estimate runs at most so much faster or slower than the clock
const MAX_ROUND_TRIP_S = 10;
const JUMP_TICKS = 24; // what differs more is no drift: the world stood still, or a clock was set

export class TickEstimate {
  constructor(fps, tick, now) {
    this.fps = fps;
    this.set(tick, now);
  }

  set(tick, now) {
    this.samples = [];
    this.offset = tick - this.ticks(now);
    this.readAt = now;
  }

  /** Whether it rests on a Pong; before the first it is a guess that lags. */
  isMeasured() {
    return this.samples.length > 0;
  }

  /** Takes in a Pong that came now. */
  pong(message, now) {
    const roundTrip = this.ticks(now - message.t0 - (message.t2 - message.t1));
    if (roundTrip < 0 || roundTrip > MAX_ROUND_TRIP_S * this.fps || message.tick < 0) return; // a clock was set
    const offset = message.tick + roundTrip / 2 - this.ticks(now);
    if (!this.isMeasured() || Math.abs(offset - this.offset) > JUMP_TICKS) this.set(message.tick + roundTrip / 2, now);
    this.samples.push({ roundTrip, offset, serverMs: message.t2 + (roundTrip / 2 / this.fps) * 1000 - now });
    if (this.samples.length > NUM_PONGS) this.samples.shift();
  }

  /** The tick at the server now. */
  tick(now) {
    if (this.samples.length) {
      const most = MAX_SLEW * this.ticks(Math.max(now - this.readAt, 0));
      this.offset += Math.min(Math.max(this.best().offset - this.offset, -most), most);
    }
    this.readAt = now;
    return this.offset + this.ticks(now);
  }

  /** The server's clock minus this one's, in milliseconds; null before the first Pong. */
  serverOffset() {
    return this.samples.length ? this.best().serverMs : null;
  }

  /** Ticks that a message takes one way when nothing holds it up. */
  oneWay() {
    return this.samples.length ? this.best().roundTrip / 2 : 0;
  }

  /** Milliseconds of the newest round trips. */
  roundTripMs() {
    return this.samples.length ? (this.samples[this.samples.length - 1].roundTrip * 1000) / this.fps : 0;
  }

  /** Ticks that nineteen of twenty messages take longer than the quickest, at most. */
  jitter() {
    if (this.samples.length < 2) return 0;
    const trips = this.samples.map((sample) => sample.roundTrip).sort((a, b) => a - b);
    return (trips[Math.floor(0.95 * (trips.length - 1))] - trips[0]) / 2;
  }

  best() {
    return this.samples.reduce((a, b) => (b.roundTrip < a.roundTrip ? b : a));
  }

  ticks(milliseconds) {
    return (milliseconds * this.fps) / 1000;
  }
}
