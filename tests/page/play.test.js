import assert from "node:assert/strict";
import { test } from "node:test";

import { figureLines, graded } from "../../gamegen_x/serve/static/figures.js";
import { HeldKeys, KeyMap, isForGames, labelOf } from "../../gamegen_x/serve/static/keys.js";
import { Line, PATIENCE_MS, Unreachable, WarmingUp } from "../../gamegen_x/serve/static/line.js";
import { PictureReader, canRead } from "../../gamegen_x/serve/static/pictures.js";
import { View, directions, placesOf, shiftOf } from "../../gamegen_x/serve/static/view.js";
import { refusalOf, sentenceOf, troubleOf } from "../../gamegen_x/serve/static/words.js";

const KEYS = ["w", "a", "s", "d", "space", "e", "q"];
const storage = (stored = {}) => ({ getItem: (name) => stored[name] ?? null, setItem: (name, value) => (stored[name] = value), removeItem: (name) => delete stored[name] });
const pad = (changes) => ({ index: 0, axes: [0, 0, 0, 0], buttons: [], ...changes });

test("a key map finds keys by their place on the keyboard, and keeps what was changed", () => {
  const stored = {};
  const map = new KeyMap(KEYS, storage(stored));
  assert.equal(map.keyOf("ArrowUp"), "w");
  map.assign("e", "KeyW");
  assert.equal(map.keyOf("KeyW"), "e");
  assert.equal(new KeyMap(KEYS, storage(stored)).keyOf("KeyW"), "e");
  map.reset();
  assert.equal(new KeyMap(KEYS, storage(stored)).keyOf("KeyW"), "w");
});

test("keys that the page, the browser or other keys need are none of the world's", () => {
  for (const code of ["Tab", "Enter", "NumpadEnter", "Escape", "F3", "F12", "ShiftLeft", "ControlRight", "AltLeft", "MetaLeft", "CapsLock", ""]) assert.ok(!isForGames(code), code);
  for (const code of ["KeyF", "Digit1", "Space", "ArrowUp", "Numpad8", "Comma", "Backspace"]) assert.ok(isForGames(code), code);
});

test("arrows walk, but where a world turns by them they turn, and each game keeps its own changes", () => {
  const doom = ["w", "a", "s", "d", "left", "right", "space"];
  const stored = {};
  const snow = new KeyMap(KEYS, storage(stored));
  assert.equal(snow.keyOf("ArrowLeft"), "a");
  snow.assign("e", "KeyF");
  const map = new KeyMap(doom, storage(stored));
  assert.deepEqual(["ArrowLeft", "ArrowRight", "ArrowUp", "KeyA"].map((code) => map.keyOf(code)), ["left", "right", "w", "a"]);
  const held = new HeldKeys(map);
  held.readGamepad(pad({ axes: [0, 0, -0.9, 0] }));
  assert.equal(held.take(), 1 << 4);
  held.readGamepad(pad({ axes: [0, 0, 0.9, 0] }));
  assert.equal(held.take(), 1 << 5);
});

test("a damaged key map is forgotten", () => {
  assert.equal(new KeyMap(KEYS, storage({ [`ggx.keymap.${KEYS.join("+")}`]: "{half" })).keyOf("KeyW"), "w");
});

test("a key is held while anything holds it, and a tap is seen once", () => {
  const held = new HeldKeys(new KeyMap(KEYS, storage()));
  held.press("w", "keyboard");
  held.press("w", "touch");
  held.release("w", "keyboard");
  held.take();
  assert.equal(held.take(), 1);
  held.release("w", "touch");
  held.press("q", "keyboard");
  held.release("q", "keyboard");
  assert.equal(held.take(), 1 << 6);
  assert.equal(held.take(), 0);
});

test("nothing is held when the window loses the keyboard", () => {
  const held = new HeldKeys(new KeyMap(KEYS, storage()));
  held.press("w", "keyboard");
  held.take();
  held.releaseAll();
  assert.equal(held.take(), 0);
});

test("a gamepad's stick and buttons are keys", () => {
  const held = new HeldKeys(new KeyMap(KEYS, storage()));
  held.readGamepad(pad({ axes: [0.9, -0.8, 0, 0], buttons: [{ pressed: true }] }));
  assert.equal(held.take(), (1 << 0) | (1 << 3) | (1 << 4));
  held.readGamepad(pad({}));
  held.take();
  assert.equal(held.take(), 0);
});

test("keys that a picture does not show move it at once, but never far", () => {
  const moves = { w: [0, 2], d: [-2, 0] };
  assert.deepEqual(shiftOf([1, 1 | 8], KEYS, moves, 1), [-2, 4]);
  assert.deepEqual(shiftOf(Array(30).fill(1), KEYS, moves, 1), [0, 6]);
});

test("a moved picture covers the whole side, and ground goes on without a seam", () => {
  const length = 64;
  for (const shift of [-12, -1, 0, 1, 12]) {
    const shown = Array(length); // which column of the picture each pixel shows
    for (const [scale, offset] of placesOf(shift, length)) {
      for (let column = 0; column < length; column += 1) {
        const pixel = scale * (column + 0.5) + offset - 0.5;
        if (pixel >= 0 && pixel < length) {
          assert.equal(shown[pixel], undefined, "drawn twice");
          shown[pixel] = column;
        }
      }
    }
    for (let pixel = 1; pixel < length; pixel += 1) assert.ok(Math.abs(shown[pixel] - shown[pixel - 1]) <= 1, `seam at ${pixel} of shift ${shift}`);
    assert.equal(shown[length / 2], length / 2 - shift);
  }
});

test("arrows point to where others are", () => {
  const here = [1, 0, 0, 0, 1, 0, 0, 0, 1]; // columns right, up, position
  const there = [0, 0, 1, 0, 1, 0, -1, 0, 0]; // a quarter of the planet to the right
  const state = { "players.frames": { shape: [2, 3, 3], values: [...here, ...there] } };
  const [{ other, angle, distance }] = directions(state, 0, [0, 1]);
  assert.equal(other, 1);
  assert.ok(Math.abs(angle) < 1e-9);
  assert.ok(Math.abs(distance - Math.PI / 2) < 1e-9);
});

function viewOf(size) {
  const drawn = [];
  const placed = [];
  const context = { setTransform: (...where) => placed.push(where), resetTransform() {}, drawImage: (bitmap, x, y, width, height) => drawn.push([bitmap.width, width, height]) };
  const canvas = { width: 0, height: 0, getContext: () => context, parentElement: { style: {}, classList: { add() {} } } };
  globalThis.createImageBitmap = () => Promise.resolve({ width: size.now, height: size.now });
  return { view: new View(canvas, {}), canvas, drawn, placed };
}

test("a picture that moves both ways is drawn where it goes, and mirrored beside, below and across", () => {
  const { view, placed } = viewOf({ now: 64 });
  view.paint({ width: 64, height: 64 }, [3, -5]);
  assert.deepEqual(placed, [
    [1, 0, 0, 1, 3, -5],
    [1, 0, 0, -1, 3, 123],
    [-1, 0, 0, 1, 3, -5],
    [-1, 0, 0, -1, 3, 123],
  ]);
});

test("nothing is painted again that is there already", async () => {
  const { view, drawn } = viewOf({ now: 64 });
  await view.take(frameOf(1, 1), 24, () => {});
  view.draw(0, [0, 0]);
  view.draw(16, [0, 0.3]);
  assert.equal(drawn.length, 1);
  view.draw(32, [0, 2]);
  view.draw(48, [0, 2]);
  assert.equal(drawn.length, 3); // the picture, and what it uncovers
});

test("arrows are painted where they changed, and go with their players", () => {
  let cleared = 0;
  const context = new Proxy({}, { get: () => () => {}, set: () => true });
  const marks = { clientWidth: 100, getContext: () => context, set width(_) { cleared += 1; }, set height(_) {} };
  const view = new View({ getContext: () => context }, marks);
  const frames = (place) => ({ "players.frames": { shape: [2, 3, 3], values: [1, 0, 0, 0, 1, 0, 0, 0, 1, ...place] } });
  const [right, up] = [[0, 0, 1, 0, 1, 0, -1, 0, 0], [1, 0, 0, 0, 0, 1, 0, -1, 0]];
  for (const [state, times] of [[null, 0], [frames(right), 1], [frames(right), 1], [frames(up), 2], [null, 3], [null, 3]]) {
    view.paintMarks(state, 0, [0, 1], ["red", "yellow"], 0.3);
    assert.equal(cleared, times);
  }
});

const frameOf = (seq, count) => {
  const picture = [1, 0, 0, 0, 7];
  return { seq, tick: seq * count, count, codec: "jpeg", t_generated: 0, payload: Uint8Array.from(Array(count).fill(picture).flat()) };
};

for (const count of [1, 4]) {
  test(`a page that was hidden for half a minute shows the newest block of ${count} at once`, async () => {
    const { view } = viewOf({ now: 64 });
    const shown = [];
    view.draw(0, [0, 0]);
    const last = 720 / count;
    for (let seq = 1; seq <= last; seq += 1) await view.take(frameOf(seq, count), 24, (frame) => shown.push(frame.seq));
    assert.ok(view.queue.length <= 8);
    view.draw(30_000, [0, 0]);
    assert.ok(last * count - view.tick <= count, `${last * count - view.tick} ticks old`);
    assert.ok(shown.length >= last - 2); // what was not drawn gave its credit back
  });
}

/** A Line, the sockets that it opens and what it tells; its timer stands still, as that of a hidden page nearly does. */
function lineOf(session, prepare) {
  const sockets = [];
  const told = [];
  globalThis.WebSocket = class {
    static CONNECTING = 0;
    static OPEN = 1;
    readyState = 0;
    sent = [];
    constructor() {
      sockets.push(this);
    }
    send(data) {
      this.sent.push(data);
    }
    close() {
      this.readyState = 2;
    }
  };
  const line = new Line(session, { url: "ws://server/ws", prepare, held: () => 1, tell: (state, said) => told.push([state, said]) });
  clearInterval(line.timer);
  return { line, sockets, told };
}

test("a server that restarts is waited for, and the page says so until it is back", async () => {
  let isUp = true;
  const { line, sockets, told } = lineOf(null, async () => {
    if (!isUp) throw new Unreachable();
  });
  await line.open();
  isUp = false;
  sockets[0].onclose({ code: 1012, reason: "" });
  await line.open();
  isUp = true;
  await line.open();
  assert.deepEqual(told, [["waiting", "going_away"], ["waiting", "going_away"]]);
  assert.equal(sockets.length, 2);
  line.close();
});

test("a socket that does not open is given up, and the next one is tried", async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { line, sockets, told } = lineOf(null, async () => {});
  await line.open();
  line.step();
  assert.deepEqual(told, []);
  now = PATIENCE_MS + 1;
  line.step();
  assert.equal(sockets[0].readyState, 2);
  assert.deepEqual(told, [["waiting", "the server does not answer"]]);
  t.mock.timers.tick(250);
  await Promise.resolve();
  assert.equal(sockets.length, 2);
  sockets[0].onclose({ code: 1006, reason: "" }); // of the one before: no matter any more
  assert.equal(told.length, 1);
  line.close();
});

test("a page whose timer stands still says Hello, and its keys whenever something comes", async () => {
  const calls = [];
  const session = { welcome: null, isLost: false, connect: () => calls.push("connect"), receive: (data) => calls.push(data), step: (now, held) => calls.push(`step ${held}`), take: () => [new Uint8Array(3)], leave: () => {} };
  const { line, sockets } = lineOf(session, async () => {});
  await line.open();
  sockets[0].readyState = 1;
  sockets[0].onopen();
  assert.equal(sockets[0].sent.length, 1);
  sockets[0].onmessage({ data: "state" });
  assert.equal(sockets[0].sent.length, 2);
  assert.deepEqual(calls, ["connect", "step 1", "state", "step 1"]);
  line.close();
});

test("a server that warms up is asked again once a second, however often it was asked", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let asked = 0;
  const { line, told } = lineOf(null, async () => {
    asked += 1;
    throw new WarmingUp({ stage: "loading", percent: 40 });
  });
  await line.open();
  for (let seconds = 1; seconds < 8; seconds += 1) {
    assert.equal(asked, seconds);
    t.mock.timers.tick(1000);
    await Promise.resolve().then(() => {}).then(() => {});
  }
  assert.deepEqual(told[0], ["waiting", "the server is warming up: loading, 40 %"]);
  line.close();
});

test("what the server refuses for good is not tried again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const [status, state, tries] of [[422, "over", 1], [403, "over", 1], [429, "waiting", 2], [503, "waiting", 2]]) {
    let asked = 0;
    const { line, told } = lineOf(null, async () => {
      asked += 1;
      if (asked === 1) throw Object.assign(new Error("no such camera"), { status });
    });
    await line.open();
    assert.deepEqual(told, [[state, "no such camera"]]);
    t.mock.timers.tick(5000);
    assert.equal(asked, tries, `${status}`);
    line.close();
  }
});

test("pictures of half the size are scaled up to the size of the whole ones", async () => {
  const size = { now: 64 };
  const { view, canvas, drawn } = viewOf(size);
  for (const [seq, now] of [64, 32, 64].entries()) {
    size.now = now;
    await view.take(frameOf(seq + 1, 1), 24, () => {});
    view.draw(100 * (seq + 1), [0, 0]);
  }
  assert.deepEqual(drawn, [[64, 64, 64], [32, 64, 64], [64, 64, 64]]);
  assert.equal(canvas.width, 64);
});

test("events and troubles are told in words", () => {
  const here = new Set([0, 1]);
  assert.equal(sentenceOf({ kind: "said", subject: 1, text: "Let it snow." }, here), "Yellow: “Let it snow.”");
  assert.equal(sentenceOf({ kind: "met", subject: 1, text: "" }, here), "You met Yellow");
  assert.equal(sentenceOf({ kind: "met", subject: 2, text: "" }, here), ""); // an empty seat's body
  assert.equal(sentenceOf({ kind: "something new", subject: 1, text: "" }, here), "");
  assert.match(troubleOf("room_full"), /seat/);
  assert.match(troubleOf("going_away"), /restarting.*by itself/);
  assert.match(troubleOf("went wrong"), /^Went wrong\. Trying again/);
  assert.equal(troubleOf("no such camera", true), "The server refuses: no such camera.");
  assert.equal(labelOf("KeyW"), "w");
});

test("figures are graded both ways", () => {
  assert.deepEqual([10, 100, 1000].map((each) => graded(each, [50, 500])), ["good", "fair", "poor"]);
  assert.deepEqual([24, 18, 5].map((each) => graded(each, [21, 14], true)), ["good", "fair", "poor"]);
  const found = { fps: 24, targetFps: 24, block: 4, roundTripMs: 20, ageMs: 30, serverMs: 82, kbps: 40, pictures: "h264 64x64", delayTicks: 0, desyncs: 0, skipped: 0, tick: 7, step: "fewer_steps", sim: "wifi" };
  const lineOf = (changes, wanted) => figureLines({ ...found, ...changes }).find(([name]) => name === wanted);
  assert.deepEqual(lineOf({}, "sim"), ["sim", "wifi", "fair"]);
  assert.deepEqual(lineOf({}, "server"), ["server", "82.0 ms", "good"]); // of the 167 that a block of four has
  assert.deepEqual(lineOf({ block: 1 }, "server"), ["server", "82.0 ms", "poor"]);
  assert.deepEqual(lineOf({}, "server is"), ["server is", "at fewer steps", "fair"]);
  assert.equal(lineOf({}, "pictures")[1], "h264 64x64");
});

test("keys that the server does not take are no silent matter", () => {
  assert.match(refusalOf("input_in_future"), /slower than it should be/);
  assert.match(refusalOf("input_too_late"), /too late/);
  assert.equal(refusalOf("text_not_understood"), "");
});

/** WebCodecs, as far as the page asks for it: what is decoded comes out when it is flushed, and then a key is needed again. */
class OneDecoder {
  static made = [];
  static async isConfigSupported({ codec }) {
    if (!codec.startsWith("avc1.")) throw new TypeError("unknown");
    return { supported: codec !== "avc1.ffffff" };
  }
  constructor({ output }) {
    Object.assign(this, { output, state: "unconfigured", needsKey: true, inside: [] });
    OneDecoder.made.push(this);
  }
  configure(config) {
    Object.assign(this, { config, state: "configured" });
  }
  decode({ type, data }) {
    if (this.needsKey && type !== "key") throw new Error("a key is needed");
    this.needsKey = false;
    this.inside.push(data[0]);
  }
  async flush() {
    await new Promise((done) => setTimeout(done, 5 * Math.random()));
    this.needsKey = true;
    for (const value of this.inside.splice(0)) {
      if (value === BROKEN) {
        this.state = "closed";
        throw new Error("broken");
      }
      if (value !== LOST) this.output({ value, isClosed: false, close() { this.isClosed = true; } });
    }
  }
  close() {
    this.state = "closed";
  }
}

const [BROKEN, LOST] = [255, 254];
const api = () => ({ VideoDecoder: OneDecoder, EncodedVideoChunk: class { constructor(init) { Object.assign(this, init); } }, createImageBitmap: async (frame) => frame });
const payloadOf = (...values) => new Uint8Array(values.flatMap((value) => [1, 0, 0, 0, value]));

test("a browser says which codecs it reads", async () => {
  assert.ok(await canRead("jpeg", undefined));
  assert.ok(!(await canRead("avc1.f4001f", undefined)));
  assert.deepEqual(await Promise.all(["avc1.f4001f", "avc1.ffffff", "nonsense"].map((codec) => canRead(codec, OneDecoder))), [true, false, false]);
});

test("blocks of video are read in the order in which they came, each from its own key on", async () => {
  const reader = new PictureReader(api());
  const blocks = [[1, 2, 3, 4], [5, 6, 7, 8], [9]];
  const read = await Promise.all(blocks.map((values) => reader.read({ codec: "avc1.f4001f", payload: payloadOf(...values) })));
  assert.deepEqual(read.map((frames) => frames.map(({ value }) => value)), blocks);
  assert.ok(read.flat().every(({ isClosed }) => isClosed)); // a decoder has few frames to give
  assert.equal(reader.decoder.config.codec, "avc1.f4001f");
});

for (const [said, value] of [["cannot be read", BROKEN], ["lacks a picture", LOST]]) {
  test(`after a block that ${said} the next one is read, by a new decoder`, async () => {
    const reader = new PictureReader(api());
    const before = OneDecoder.made.length;
    const blocks = [[1], [2, value], [3, 4]].map((values) => reader.read({ codec: "avc1.f4001f", payload: payloadOf(...values) }));
    const [first, broken, next] = await Promise.allSettled(blocks);
    assert.deepEqual([first.status, broken.status, next.status], ["fulfilled", "rejected", "fulfilled"]);
    assert.deepEqual(next.value.map((frame) => frame.value), [3, 4]);
    assert.equal(OneDecoder.made.length - before, 2);
  });
}

test("a decoder that does not answer keeps no later block waiting", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  class Silent extends OneDecoder {
    flush() {
      return this === OneDecoder.made[before] ? new Promise(() => {}) : Promise.resolve(this.inside.splice(0).forEach((value) => this.output({ value, close() {} })));
    }
  }
  const before = OneDecoder.made.length;
  const reader = new PictureReader({ ...api(), VideoDecoder: Silent });
  const [stuck, next] = [[1], [2]].map((values) => reader.read({ codec: "avc1.f4001f", payload: payloadOf(...values) }));
  stuck.catch(() => {});
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  context.mock.timers.tick(2000);
  await assert.rejects(stuck, /does not answer/);
  assert.deepEqual((await next).map(({ value }) => value), [2]);
});

test("a block that cannot be read gives its credit back and is told of, and so are those after it", async (context) => {
  context.mock.method(console, "error", () => {});
  const [told, shown] = [[], []];
  const results = [false, false, true, false];
  const reader = { read: async () => (results.shift() ? [{ width: 8, height: 8 }] : Promise.reject(new Error("broken"))) };
  const view = new View({ getContext: () => ({}) }, null, { reader, onUnread: (codec, inRow) => told.push([codec, inRow]) });
  for (const seq of [1, 2, 3, 4]) await view.take({ seq, tick: seq, count: 1, codec: "avc1.f4001f" }, 24, (frame) => shown.push(frame.seq));
  assert.deepEqual(shown, [1, 2, 4]);
  assert.deepEqual(told.map(([, inRow]) => inRow), [1, 2, 1]);
  assert.equal(view.queue.length, 1);
});
