import assert from "node:assert/strict";
import { test } from "node:test";

import { pack, unpack } from "../../gamegen_x/serve/static/msgpack.js";
import { bytesOfKeys, decode, encode, known, splitPictures } from "../../gamegen_x/serve/static/wire.js";
import { bytes, compared, fixtures, hex } from "./fixtures.js";

test("what is packed is unpacked as it was", () => {
  const long = "ä".repeat(300);
  for (const value of [null, true, false, 0, 127, 128, -1, -32, -33, 2 ** 31, 4294967295, -(2 ** 31), 1.5, "", "hé", long, [], [1, [2, "x"]]]) {
    assert.deepEqual(unpack(pack(value)), value);
  }
  assert.deepEqual([...unpack(pack(new Uint8Array([1, 2, 3])))], [1, 2, 3]);
});

test("a message that is cut short or too long is refused", () => {
  const whole = pack([1, "room", 2.5]);
  for (let size = 0; size < whole.length; size += 1) assert.throws(() => unpack(whole.subarray(0, size)));
  assert.throws(() => unpack(new Uint8Array([...whole, 0])));
});

test("a kind that the wire does not use is refused, not guessed", () => {
  assert.throws(() => unpack(new Uint8Array([0xc1])), /0xc1/);
  assert.throws(() => decode(pack([99])), /99/);
});

test("keys travel as two bytes a tick, oldest first", () => {
  assert.equal(hex(bytesOfKeys([1, 0x0102])), "01000201");
});

test("pictures of a payload are told apart by their lengths", () => {
  assert.deepEqual(splitPictures(new Uint8Array([2, 0, 0, 0, 7, 8, 1, 0, 0, 0, 9])).map((each) => [...each]), [[7, 8], [9]]);
  assert.throws(() => splitPictures(new Uint8Array([9, 0, 0, 0, 1])));
});

test("the page knows the same messages and fields as the server", compared, () => {
  const ours = { client: {}, server: {} };
  for (const [tag, fields] of Object.values(known.client)) ours.client[tag] = fields;
  for (const [tag, [, fields]] of Object.entries(known.server)) ours.server[tag] = fields;
  assert.deepEqual(ours, fixtures.fields);
});

test("Python reads what the page says, and the page what Python says", compared, () => {
  for (const { kind, message, packed } of fixtures.client) {
    if (message.keys) message.keys = bytes(message.keys);
    assert.deepEqual(unpack(encode(kind, message)), unpack(bytes(packed)), kind);
  }
  for (const { type, packed, some } of fixtures.server) {
    const message = decode(bytes(packed));
    assert.equal(message.type, type);
    for (const [name, value] of Object.entries(some)) assert.deepEqual(message[name], value, `${type}.${name}`);
  }
});
