import assert from "node:assert/strict";
import { test } from "node:test";

import { PlayLog } from "../../gamegen_x/serve/static/play_log.js";

test("a press gets the first tick that was sent with its key after it went down", () => {
  const log = new PlayLog();
  log.press(100, 2, 7);
  log.settle(110, new Map([[6, 2], [7, 2], [8, 1]]));
  assert.deepEqual(log.take().presses, []);
  log.settle(130, new Map([[8, 1], [9, 3], [10, 2]]));
  assert.deepEqual(log.take().presses, [{ at: 100, tick: 9 }]);
  assert.deepEqual(log.take().presses, []);
});

test("a press that was never sent is told of too", () => {
  const log = new PlayLog();
  log.press(100, 1, 7);
  log.settle(3000, new Map());
  assert.deepEqual(log.take().presses, [{ at: 100, tick: null }]);
});

test("a log that nobody takes does not grow", () => {
  const log = new PlayLog();
  for (let tick = 0; tick < 10_000; tick += 1) log.picture(tick, tick, tick, null);
  const { pictures } = log.take();
  assert.ok(pictures.length < 5000);
  assert.equal(pictures.at(-1).tick, 9999);
});
