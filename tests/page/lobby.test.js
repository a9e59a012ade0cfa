import assert from "node:assert/strict";
import { test } from "node:test";

import { warnOfPlayers } from "../../gamegen_x/serve/static/lobby.js";

test("more seats than the weights learned from are warned of, and no fewer", () => {
  for (const [learned, seats, said] of [[null, 8, null], [2, 2, null], [2, 3, /learned from 2 players at a time: with 3/], [1, 2, /by itself: the 2 of you will not see each other/]]) {
    const warning = warnOfPlayers({ weights: "some-weights", num_players: learned }, seats);
    if (said === null) assert.equal(warning, "");
    else assert.match(warning, said);
  }
});
