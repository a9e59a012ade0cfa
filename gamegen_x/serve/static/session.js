// A player's half of the wire without a socket: bytes in, bytes out. The same as gamegen_x/serve/client.py, in the
// browser. Whoever owns the line calls `step` many times a second, `receive` for each message, and sends what `take`
// gives. Times are milliseconds of the page's monotonic clock.

import { TickEstimate } from "./clock.js";
import { StateCodec, hashOf } from "./state.js";
import { PROTOCOL, bytesOfKeys, decode, encode } from "./wire.js";

export const RULES = { helloEvery: 500, firstPingEvery: 100, pingEvery: 500, resyncEvery: 250, textEvery: 500, silence: 3000, delayEvery: 1000, freeJitter: 0.25, maxDelay: 6, stateRing: 128, maxCopies: 16 };
export const CLOSING = new Set(["too_much_malformed", "too_large", "unknown_protocol", "hello_timeout", "unauthorized", "unknown_room", "room_full", "resume_refused", "replaced", "flooding", "overloaded", "going_away", "internal"]);

export class Session {
  /** `hear(kind, message)` is told of welcome, event, frame, quality, error and correction. */
  constructor({ room, role = "player", token = "", hear = () => {} }) {
    Object.assign(this, { room, role, token, hear });
    this.resume = "";
    this.life = "";
    this.welcome = null;
    this.isLost = false;
    this.lastError = ""; // the code that closes this connection
    this.texts = [];
    this.out = [];
    this.beginAnew();
  }

  get seat() {
    return this.welcome === null ? -1 : this.welcome.seat;
  }

  connect(now) {
    this.welcome = null;
    this.isLost = false;
    this.lastError = "";
    this.heardAt = now;
    this.out = [];
    this.hello(now);
  }

  say(text) {
    this.texts.push(text);
  }

  leave() {
    this.resume = "";
    this.put("Leave", {});
  }

  take() {
    const found = this.out;
    this.out = [];
    return found;
  }

  /** One turn of the page, with the keys held in it as bits. */
  step(now, held) {
    if (this.welcome === null) {
      if (now - this.helloAt >= RULES.helloEvery) this.hello(now);
    } else if (!this.isLost) {
      if (this.role === "player" && this.estimate.isMeasured()) this.sendKeys(now, held); // before, they would be late
      else if (now - this.ackAt >= 1000 / this.welcome.fps) {
        this.ackAt = now;
        this.put("Ack", { ...this.acks(), decode_ms: 0, buffer_ms: 0 });
      }
      this.askAndReport(now);
    }
    if (now - this.heardAt > RULES.silence) this.isLost = true;
  }

  /** Takes in a message; what cannot be read is skipped, and comes again. */
  receive(data, now) {
    let message;
    try {
      message = decode(data);
    } catch {
      this.numUnreadable += 1;
      return;
    }
    this.heardAt = now;
    if (message.type === "Welcome") this.begin(message, now);
    else if (message.type === "Error") this.takeError(message);
    else if (this.welcome === null) return;
    else if (message.type === "Keyframe" || message.type === "Delta") this.takeState(message);
    else if (message.type === "Event" || message.type === "Correction") this.takeEvent(message);
    else if (message.type === "Pong") this.estimate.pong(message, now);
    else if (message.type === "Quality") {
      this.hashEvery = message.hash_every;
      this.hear("quality", message);
    } else if (message.type === "Frame") this.hear("frame", message);
  }

  /** Says that a picture was shown; the server may send another. */
  shown(seq) {
    this.ackFrame = Math.max(this.ackFrame, seq);
  }

  /** The keys that were pressed for ticks after one: what its picture does not show yet. */
  keysAfter(tick) {
    const found = [];
    for (const [each, bits] of this.keys) if (each > tick) found.push(bits);
    return found;
  }

  /** The newest state's arrays by name, or null. */
  state() {
    return this.newest === null ? null : this.codec.arrays(this.newest.folded);
  }

  // Getting in --------------------------------------------------------------------------------------------------------

  beginAnew() {
    this.event = 0;
    this.early = new Map();
    this.states = new Map();
    this.newest = null;
    this.keys = new Map();
    this.lastKeyTick = -1;
    this.tapped = 0;
    this.textsDone = 0;
    this.needs = null;
    this.hashEvery = 1;
    this.hashAt = -1;
    this.seq = 0;
    this.delay = 0;
    this.ackFrame = 0;
    this.numDesyncs = 0;
    this.numUnreadable = 0;
  }

  hello(now) {
    this.helloAt = now;
    const { room, role, token, resume } = this;
    this.put("Hello", { protocol: PROTOCOL, room, role, token, resume, last_event: this.event });
  }

  begin(welcome, now) {
    if (this.welcome !== null) return; // the answer to a Hello that was sent again
    if (this.resume === "" || this.newest === null || welcome.life !== this.life) {
      this.beginAnew();
      this.event = welcome.event;
    }
    this.welcome = welcome;
    this.resume = welcome.resume;
    this.life = welcome.life;
    this.textsHandled(welcome.text);
    this.codec = new StateCodec(welcome.layout);
    this.estimate = new TickEstimate(welcome.fps, welcome.tick, now);
    this.hashEvery = welcome.hash_every;
    this.seq = 0;
    this.ackFrame = 0;
    this.lastKeyTick = Math.max(this.lastKeyTick, welcome.tick);
    this.delayAt = this.textAt = this.resyncAt = this.pingAt = this.ackAt = -Infinity;
    this.hear("welcome", welcome);
  }

  takeError(message) {
    if (message.code === "resume_refused") this.resume = "";
    if (CLOSING.has(message.code)) {
      this.isLost = true;
      this.lastError = message.code;
    }
    this.hear("error", message);
  }

  // Keys --------------------------------------------------------------------------------------------------------------

  sendKeys(now, held) {
    this.followJitter(now);
    const arrival = this.estimate.tick(now) + this.estimate.oneWay() + this.delay;
    const target = Math.min(Math.floor(arrival) + 1, this.furthestTick());
    if (target <= this.lastKeyTick) {
      this.tapped |= held; // the next tick that is sent has it
      return;
    }
    const copies = Math.min(this.welcome.input_copies, RULES.maxCopies);
    for (let tick = Math.max(this.lastKeyTick + 1, target - copies + 1); tick <= target; tick += 1) {
      this.keys.set(tick, held | this.tapped);
      this.tapped = 0;
    }
    this.lastKeyTick = target;
    for (const tick of [...this.keys.keys()]) if (tick <= target - 48) this.keys.delete(tick);
    let first = target;
    while (first > target - copies + 1 && this.keys.has(first - 1)) first -= 1;
    const ticks = [];
    for (let tick = first; tick <= target; tick += 1) ticks.push(this.keys.get(tick));
    this.seq += 1;
    this.put("Input", { seq: this.seq, tick: target, seat: this.welcome.seat, keys: bytesOfKeys(ticks), ...this.acks(), t_client: Math.max(now, 0) });
  }

  /**
   * The last tick that keys are sent for: see `_furthest_tick` in client.py. A world that is slower than its `fps` is
   * soon far behind the estimate; while no newer state has come, its next block began a trip ago at the most.
   */
  furthestTick() {
    const newest = Math.max(this.newest?.tick ?? -1, this.welcome.tick);
    return newest + 2 + Math.ceil(2 * this.estimate.oneWay()) + this.delay;
  }

  followJitter(now) {
    if (now - this.delayAt < RULES.delayEvery) return;
    this.delayAt = now;
    const jitter = this.estimate.jitter();
    const wanted = jitter > RULES.freeJitter ? Math.min(Math.ceil(jitter), RULES.maxDelay) : 0;
    this.delay += Math.sign(wanted - this.delay);
  }

  acks() {
    return { ack_state: this.newest === null ? -1 : this.newest.tick, ack_event: this.event, ack_frame: this.ackFrame };
  }

  // What is asked, said and reported again ------------------------------------------------------------------------------

  askAndReport(now) {
    if (now - this.pingAt >= (this.estimate.isMeasured() ? RULES.pingEvery : RULES.firstPingEvery)) {
      this.pingAt = now;
      this.put("Ping", { t0: Math.max(now, 0) });
    }
    if (this.texts.length && now - this.textAt >= RULES.textEvery) {
      this.textAt = now;
      this.put("Text", { seq: this.textsDone + 1, text: this.texts[0] });
    }
    if (this.needs !== null && now - this.resyncAt >= RULES.resyncEvery) {
      this.resyncAt = now;
      this.put("Resync", { why: this.needs });
    }
    if (this.newest !== null && this.newest.tick - this.hashAt >= this.hashEvery) {
      this.hashAt = this.newest.tick;
      this.put("HashReport", { tick: this.newest.tick, hash: hashOf(this.newest.folded) });
    }
  }

  // States and events ---------------------------------------------------------------------------------------------------

  takeState(message) {
    this.textsHandled(message.text);
    const isWhole = message.type === "Keyframe";
    if (!isWhole && this.states.has(message.tick)) return;
    const base = isWhole ? null : this.states.get(message.base);
    if (base === undefined) {
      this.needs = this.needs ?? "base";
      return;
    }
    let folded;
    try {
      folded = this.codec.apply(base, message.blob);
    } catch {
      this.needs = "hash";
      return;
    }
    if (hashOf(folded) !== message.hash) {
      this.needs = "hash";
      this.numDesyncs += 1;
      return;
    }
    if (isWhole) this.needs = null;
    this.states.set(message.tick, folded);
    if (this.newest === null || message.tick >= this.newest.tick) this.newest = { tick: message.tick, folded };
    for (const tick of [...this.states.keys()]) if (tick < this.newest.tick - RULES.stateRing) this.states.delete(tick);
  }

  /** Events are numbered without gaps: each is heard once, in order. */
  takeEvent(message) {
    if (message.id > this.event) this.early.set(message.id, message);
    while (this.early.has(this.event + 1)) {
      this.event += 1;
      const next = this.early.get(this.event);
      this.early.delete(this.event);
      this.hear(next.type.toLowerCase(), next);
    }
  }

  textsHandled(seq) {
    while (this.texts.length && this.textsDone < seq) {
      this.texts.shift();
      this.textsDone += 1;
    }
    this.textsDone = Math.max(this.textsDone, seq);
  }

  put(kind, message) {
    this.out.push(encode(kind, message));
  }
}
