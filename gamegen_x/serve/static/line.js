// The line to the server: a WebSocket that comes back by itself, with the same seat, for as long as the page is open.

import { SlowLine } from "./net_sim.js";
import { PROTOCOL } from "./wire.js";

export const PATIENCE_MS = 4000; // for an answer, and for a socket to open
const STEP_MS = 16;
const WAIT_MS = [250, 500, 1000, 2000, 4000];
const FULL_MS = 1500; // between two questions for a seat
const WARM_UP_MS = 1000; // between two looks at a server that warms up
const GIVEN_UP = 4000; // the close code of a socket that this page gives up
const RESTARTING = 1012; // the registered close code of a server that restarts
const FINAL = new Set(["unknown_protocol", "unauthorized", "replaced", "flooding", "too_much_malformed"]);

/** Nothing of the server's own answered: no line, nothing in time, or a proxy's page in its place. */
export class Unreachable extends Error {
  constructor() {
    super("the server does not answer");
  }
}

/** The server answers, and will soon be ready. */
export class WarmingUp extends Error {
  constructor({ stage, percent }) {
    super(`the server is warming up: ${stage}, ${percent} %`);
  }
}

export class Line {
  /** `prepare` opens the room where the server does not have it; `held` gives the keys that are down, as bits. */
  constructor(session, { url, prepare, held, profile = null, tell = () => {} }) {
    Object.assign(this, { session, url, prepare, held, profile, tell });
    this.numTries = 0;
    this.bytesIn = 0;
    this.bytesOut = 0;
    this.isOver = false;
    this.isRestarting = false;
    this.timer = setInterval(() => this.step(), STEP_MS);
  }

  async open() {
    try {
      await this.prepare();
    } catch (mistake) {
      const isFinal = mistake.status >= 400 && mistake.status < 500 && mistake.status !== 429; // 429: later
      const isAway = mistake instanceof Unreachable && this.isRestarting;
      this.tell(isFinal ? "over" : "waiting", isAway ? "going_away" : mistake.message);
      this.again(isFinal, mistake instanceof WarmingUp ? WARM_UP_MS : null);
      return;
    }
    if (this.isOver) return;
    const socket = new WebSocket(this.url, PROTOCOL);
    const isMine = () => this.socket === socket;
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.openBy = performance.now() + PATIENCE_MS;
    this.down = new SlowLine(this.profile, (data) => {
      if (!isMine()) return;
      this.session.receive(data, performance.now());
      this.step(); // a hidden page's timer is slow
    });
    this.up = new SlowLine(this.profile, (data) => {
      if (isMine() && socket.readyState === WebSocket.OPEN) socket.send(data);
    });
    socket.onopen = () => {
      if (!isMine()) return;
      this.session.connect(performance.now());
      this.step();
    };
    socket.onmessage = ({ data }) => {
      this.bytesIn += data.byteLength;
      this.down.send(data);
    };
    socket.onclose = ({ code, reason }) => isMine() && this.closed(code, reason);
  }

  close() {
    this.isOver = true;
    clearInterval(this.timer);
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.session.leave();
      this.session.take().forEach((data) => this.socket.send(data));
      this.socket.close();
    }
  }

  step() {
    const { socket } = this;
    if (socket?.readyState === WebSocket.CONNECTING && performance.now() > this.openBy) this.giveUp(new Unreachable().message);
    if (socket?.readyState !== WebSocket.OPEN) return;
    this.session.step(performance.now(), this.held());
    for (const data of this.session.take()) {
      this.bytesOut += data.byteLength;
      this.up.send(data);
    }
    if (this.session.welcome !== null) {
      this.numTries = 0;
      this.isRestarting = false;
    }
    if (this.session.isLost) this.giveUp(this.session.lastError);
  }

  giveUp(said) {
    const { socket } = this;
    this.closed(GIVEN_UP, said);
    socket.close();
  }

  closed(code, reason) {
    if (this.isOver) return;
    this.socket = null;
    const said = code === RESTARTING ? "going_away" : reason;
    const isFinal = FINAL.has(said);
    this.isRestarting = said === "going_away";
    this.tell(isFinal ? "over" : "waiting", said || `the connection was lost (${code})`);
    this.again(isFinal, said === "room_full" ? FULL_MS : null); // who is overloaded is asked less and less
  }

  /** `wait` is for a server that answers; where nothing does, patience grows from try to try. */
  again(isFinal, wait = null) {
    if (isFinal || this.isOver) return;
    const longer = WAIT_MS[Math.min(this.numTries, WAIT_MS.length - 1)];
    if (wait === null) this.numTries += 1;
    setTimeout(() => !this.isOver && this.open(), wait ?? longer);
  }
}
