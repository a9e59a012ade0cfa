import assert from "node:assert/strict";
import { test } from "node:test";

import { TickEstimate } from "../../gamegen_x/serve/static/clock.js";
import { pack, unpack } from "../../gamegen_x/serve/static/msgpack.js";
import { SlowLine, profileOf } from "../../gamegen_x/serve/static/net_sim.js";
import { RULES, Session } from "../../gamegen_x/serve/static/session.js";
import { compared, fixtures } from "./fixtures.js";

const LAYOUT = [["places", "integer", [2]]];
const welcome = (changes = {}) => {
  const fields = { room: "r", seat: 1, role: "player", tick: 100, fps: 24, block: 1, keys: ["w", "a"], layout: LAYOUT, limits: [], input_copies: 4, hash_every: 5, resume: "back", event: 3, text: 0, here: [0, 1], world: {}, life: "first", ...changes };
  return pack2([16, ...Object.values(fields)]);
};
const pack2 = (message) => pack(message.map((each) => (each && typeof each === "object" && !Array.isArray(each) && !(each instanceof Uint8Array) ? [] : each)));
const event = (id, kind = "joined") => pack([20, id, 7, kind, "room", -1, 0, ""]);
const stateAt = (tick) => ({ tick, folded: new Int32Array(2) });
const said = (session) => session.take().map((data) => unpack(data));

function seated(changes) {
  const heard = [];
  const session = new Session({ room: "r", hear: (kind, message) => heard.push([kind, message]) });
  session.connect(0);
  session.take();
  session.receive(welcome(changes), 1);
  session.receive(pack([24, 0.5, 1.5, 1.5, 100.25]), 1);
  return { session, heard };
}

test("Hello is said again until a Welcome comes", () => {
  const session = new Session({ room: "r" });
  session.connect(0);
  assert.equal(said(session)[0][0], 1);
  session.step(400, 0);
  assert.equal(said(session).length, 0);
  session.step(600, 0);
  assert.equal(said(session)[0][0], 1);
});

test("keys are sent once a tick, and each Input repeats the ticks before", () => {
  const { session } = seated();
  for (let now = 1; now < 400; now += 16) {
    session.newest = stateAt(100 + Math.floor((now * 24) / 1000));
    session.step(now, 1);
  }
  const inputs = said(session).filter(([tag]) => tag === 2);
  const ticks = inputs.map((each) => each[2]);
  assert.deepEqual(ticks, ticks.map((_, place) => ticks[0] + place));
  assert.equal(inputs[inputs.length - 1][4].length, 2 * 4);
  assert.ok(inputs.every((each) => each[3] === 1));
});

test("keys of a world that is slower than it should be are sent no further ahead than its newest state bears out", () => {
  const { session } = seated();
  const leads = [];
  for (let now = 1; now < 5000; now += 16) {
    const tick = 100 + (now * 6) / 1000;
    if (Math.floor(now / 500) > Math.floor((now - 16) / 500)) session.receive(pack([24, now - 1, now, now, tick]), now);
    session.newest = stateAt(Math.floor(tick));
    session.step(now, 1);
    for (const [tag, , sentFor] of said(session)) if (tag === 2) leads.push(sentFor - session.newest.tick);
  }
  assert.ok(leads.length > 25);
  assert.ok(Math.max(...leads) <= 4, `${Math.max(...leads)}`);
});

test("keys are sent earlier for a line that is shaky, not for one that hardly is", () => {
  const delayWith = (late) => {
    const { session } = seated();
    for (let now = 1; now < 6000; now += 16) {
      session.newest = stateAt(100 + Math.floor((now * 24) / 1000));
      if (now % 10 === 1) session.receive(pack([24, now - 20 - (now % 3) * late, now - 10, now - 10, 100 + ((now - 10) * 24) / 1000]), now);
      session.step(now, 0);
    }
    return session.delay;
  };
  assert.deepEqual([delayWith(2), delayWith(30)], [0, 1]);
});

test("waits, tries and sends keys early by the same numbers as Python's client", compared, () => {
  assert.deepEqual(RULES, fixtures.client_rules);
});

test("no keys are sent before the line was measured", () => {
  const session = new Session({ room: "r" });
  session.connect(0);
  session.receive(welcome(), 1);
  session.take();
  for (let now = 2; now < 200; now += 16) session.step(now, 1);
  const tags = said(session).map(([tag]) => tag);
  assert.ok(!tags.includes(2));
  assert.deepEqual([tags.includes(4), tags.filter((tag) => tag === 5).length], [true, 2]);
});

test("a key that is tapped between two ticks is not lost", () => {
  const { session } = seated();
  session.step(2, 0);
  session.take();
  session.step(10, 2); // down and up within the tick
  for (let now = 26; now < 120; now += 16) session.step(now, 0);
  const keys = said(session).filter(([tag]) => tag === 2).map((each) => each[4][each[4].length - 2]);
  assert.equal(keys.filter((bits) => bits === 2).length, 1);
});

test("a world that was taken up again is known anew, and the seat stays", () => {
  const { session, heard } = seated();
  session.receive(event(4), 2);
  session.newest = stateAt(140);
  session.connect(1000);
  assert.equal(said(session).pop()[5], "back");
  session.receive(welcome({ life: "second", tick: 120, event: 0, resume: "again" }), 1001);
  assert.deepEqual([session.newest, session.lastKeyTick, session.event], [null, 120, 0]);
  session.receive(event(1), 1002);
  assert.deepEqual(heard.filter(([kind]) => kind === "event").map(([, each]) => each.id), [4, 1]);
});

test("events are heard once and in order, whatever order they come in", () => {
  const { session, heard } = seated();
  for (const id of [5, 4, 5, 4, 7, 6]) session.receive(event(id), 2);
  assert.deepEqual(heard.filter(([kind]) => kind === "event").map(([, each]) => each.id), [4, 5, 6, 7]);
});

test("events that overtake their Welcome are heard once", () => {
  const heard = [];
  const session = new Session({ room: "r", hear: (kind, message) => heard.push([kind, message]) });
  session.connect(0);
  for (const id of [1, 2]) session.receive(event(id), 1);
  session.receive(welcome({ event: 0 }), 2);
  for (const id of [1, 2]) session.receive(event(id), 3);
  assert.deepEqual(heard.filter(([kind]) => kind === "event").map(([, each]) => each.id), [1, 2]);
});

test("a state whose hash is wrong is not taken, and a whole one is asked for", () => {
  const { session } = seated();
  const blob = new Uint8Array([1, 1, 0, 5]);
  session.receive(pack([17, 101, blob, 12345, 90, 3, -1, 0, 0]), 2);
  assert.equal(session.newest, null);
  assert.equal(session.numDesyncs, 1);
  session.step(300, 0);
  assert.ok(said(session).some(([tag, why]) => tag === 7 && why === "hash"));
});

test("who comes back says which seat was theirs, unless it was given away", () => {
  const { session } = seated();
  session.connect(5000);
  assert.equal(said(session)[0][5], "back");
  session.receive(pack([25, "resume_refused", "gone", "", false, 0]), 5001);
  assert.ok(session.isLost);
  session.connect(6000);
  assert.equal(said(session)[0][5], "");
});

test("only what closes a connection is the reason for its end", () => {
  const { session } = seated();
  session.receive(pack([25, "text_not_understood", "what?", "", false, 0]), 2);
  assert.deepEqual([session.isLost, session.lastError], [false, ""]);
  session.receive(pack([25, "room_full", "full", "", true, 0]), 3);
  assert.deepEqual([session.isLost, session.lastError], [true, "room_full"]);
  session.connect(4);
  assert.equal(session.lastError, "");
});

test("bytes that nobody can read change nothing", () => {
  const { session, heard } = seated();
  const before = heard.length;
  for (const data of [[], [0xc1], [0x91, 99], [0x92, 18]]) session.receive(Uint8Array.from(data), 3);
  assert.equal(heard.length, before);
  assert.ok(!session.isLost);
});

test("the server's tick is followed without jumps, and found again after a pause", () => {
  const clock = new TickEstimate(24, 100, 0);
  clock.pong({ t0: -40, t1: 0, t2: 0, tick: 102 - 0.48 }, 0); // a tick behind what all later ones say
  let last = clock.tick(0);
  for (let now = 0; now < 3000; now += 50) {
    clock.pong({ t0: now - 40, t1: now, t2: now, tick: 103 + (now / 1000) * 24 - 0.48 }, now);
    const tick = clock.tick(now);
    assert.ok(tick >= last && tick - last < 2.5);
    last = tick;
  }
  assert.ok(Math.abs(clock.tick(3000) - (103 + 72)) < 0.3);
  clock.pong({ t0: 3000, t1: 3000, t2: 3000, tick: 5000 }, 3000);
  assert.ok(Math.abs(clock.tick(3000) - 5000) < 1);
});

test("a worse line is late, and keeps the order", () => {
  let now = 0;
  const arrived = [];
  const waiting = [];
  const line = new SlowLine({ delay: 50, jitter: 30, loss: 0.2 }, (data) => arrived.push(data), { random: Math.random, now: () => now, later: (deliver, wait) => waiting.push([now + wait, deliver]) });
  for (let i = 0; i < 50; i += 1, now += 10) line.send(i);
  assert.ok(waiting.every(([at], i) => at >= i * 10 + 50));
  waiting.sort(([a], [b]) => a - b).forEach(([, deliver]) => deliver());
  assert.deepEqual(arrived, Array.from({ length: 50 }, (_, i) => i));
  assert.equal(profileOf("?sim=nothing"), null);
  assert.ok(profileOf("?sim=wifi").delay > 0);
});
