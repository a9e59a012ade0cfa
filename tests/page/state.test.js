import assert from "node:assert/strict";
import { test } from "node:test";

import { StateCodec, hashOf } from "../../gamegen_x/serve/static/state.js";
import { bytes, compared, fixtures } from "./fixtures.js";

test("the hash is xxh32, for every length of what is left over", () => {
  // xxhash.xxh32_intdigest(struct.pack(f"<{n}i", *range(n))) for n = 0, 1, 3, 4, 9
  const expected = [46947589, 148298089, 964478135, 1399388573, 613119957];
  [0, 1, 3, 4, 9].forEach((n, place) => assert.equal(hashOf(Int32Array.from({ length: n }, (_, i) => i)), expected[place]));
});

test("bytes that are no difference are refused", () => {
  const codec = new StateCodec([["places", "integer", [4, 2]]]);
  assert.throws(() => codec.apply(null, new Uint8Array([1, 255, 0])));
  assert.throws(() => codec.apply(null, new Uint8Array([0, 0])));
});

test("states that were sent as differences are Python's, number for number", compared, () => {
  for (const world of fixtures.worlds) {
    const codec = new StateCodec(world.layout);
    const known = new Map();
    for (const { tick, base, blob, hash, vector } of world.states) {
      const folded = codec.apply(base === null ? null : known.get(base), bytes(blob));
      known.set(tick, folded);
      assert.equal(hashOf(folded), hash);
      assert.deepEqual([...codec.unfolded(folded)], vector);
    }
  }
});

test("a state has its arrays by name, fractions as numbers", compared, () => {
  const [world] = fixtures.worlds;
  const codec = new StateCodec(world.layout);
  const frames = codec.arrays(codec.apply(null, bytes(world.states[0].blob)))["players.frames"];
  const [x, y, z] = [2, 5, 8].map((place) => frames.values[place]);
  assert.ok(Math.abs(Math.hypot(x, y, z) - 1) < 1e-6);
});
