import assert from "node:assert/strict";
import { test } from "node:test";

import { Unreachable } from "../../gamegen_x/serve/static/line.js";
import { ask, warnOfPlayers } from "../../gamegen_x/serve/static/lobby.js";

test("what a proxy says in the server's place is no answer, and a refusal has its reason", async (t) => {
  const answers = [new Response("<html>Bad Gateway</html>", { status: 502 }), new Response("<html>Log in</html>"), new Response('{"detail": "no such camera"}', { status: 422 }), new Response('{"ready": true}')];
  t.mock.method(globalThis, "fetch", async () => answers.shift());
  await assert.rejects(ask("rooms", {}), Unreachable);
  await assert.rejects(ask("status"), Unreachable);
  await assert.rejects(ask("rooms", {}), { message: "no such camera", status: 422 });
  assert.deepEqual(await ask("status"), { ready: true });
});

test("more seats than the weights learned from are warned of, and no fewer", () => {
  for (const [learned, seats, said] of [[null, 8, null], [2, 2, null], [2, 3, /learned from 2 players at a time: with 3/], [1, 2, /by itself: the 2 of you will not see each other/]]) {
    const warning = warnOfPlayers({ weights: "some-weights", num_players: learned }, seats);
    if (said === null) assert.equal(warning, "");
    else assert.match(warning, said);
  }
});
