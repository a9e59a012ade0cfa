// The wire ggx.v1: messages as objects, and as the arrays that travel. docs/wire.md is the reference.

import { Double, pack, unpack } from "./msgpack.js";

export const PROTOCOL = "ggx.v1";
export const BYTES_PER_TICK = 2;

// kind -> [tag, fields]; what a server sends has the same order as gamegen_x/serve/protocol.py
const CLIENT = {
  Hello: [1, ["protocol", "room", "role", "token", "resume", "last_event"]],
  Input: [2, ["seq", "tick", "seat", "keys", "ack_state", "ack_event", "ack_frame", "t_client"]],
  Text: [3, ["seq", "text"]],
  Ack: [4, ["ack_state", "ack_event", "ack_frame", "decode_ms", "buffer_ms"]],
  Ping: [5, ["t0"]],
  HashReport: [6, ["tick", "hash"]],
  Resync: [7, ["why"]],
  Leave: [8, []],
};
const STATE = ["hash", "confirmed", "event", "input_tick", "slack", "text"];
const SERVER = {
  16: ["Welcome", ["room", "seat", "role", "tick", "fps", "block", "keys", "layout", "limits", "input_copies", "hash_every", "resume", "event", "text", "here", "world", "life"]],
  17: ["Keyframe", ["tick", "blob", ...STATE]],
  18: ["Delta", ["tick", "base", "blob", ...STATE]],
  19: ["Frame", ["seq", "tick", "count", "codec", "is_key", "input_tick", "t_generated", "payload"]],
  20: ["Event", ["id", "tick", "kind", "scope", "where", "subject", "text"]],
  21: ["Correction", ["id", "first", "last", "seat"]],
  22: ["Quality", ["step", "name", "state_every", "hash_every"]],
  23: ["Queue", ["position", "depth", "eta_s"]],
  24: ["Pong", ["t0", "t1", "t2", "tick"]],
  25: ["Error", ["code", "message", "field", "is_retryable", "retry_after_ms"]],
};
const DOUBLES = new Set(["t_client", "t0", "decode_ms", "buffer_ms"]);

/** What kinds and fields this page knows, for the test that compares it with the server's. */
export const known = { client: CLIENT, server: SERVER };

export function encode(kind, message) {
  const [tag, fields] = CLIENT[kind];
  return pack([tag, ...fields.map((name) => (DOUBLES.has(name) ? new Double(message[name]) : message[name]))]);
}

/** A server's message as an object with its `type`. Throws on bytes that are none. */
export function decode(data) {
  const [tag, ...values] = unpack(data);
  if (SERVER[tag] === undefined) throw new RangeError(`ggx.v1 has no message ${tag} from a server`);
  const [type, fields] = SERVER[tag];
  return { type, ...Object.fromEntries(fields.map((name, place) => [name, values[place]])) };
}

/** The pictures in a Frame's payload: each after four bytes, little-endian, that say its length. */
export function splitPictures(payload) {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const found = [];
  for (let place = 0; place < payload.length; ) {
    const length = view.getUint32(place, true);
    if (place + 4 + length > payload.length) throw new RangeError("a payload ends inside a picture");
    found.push(payload.subarray(place + 4, place + 4 + length));
    place += 4 + length;
  }
  return found;
}

/** Keys held at some ticks, oldest first, as the bytes of an Input. */
export function bytesOfKeys(ticks) {
  const bytes = new Uint8Array(ticks.length * BYTES_PER_TICK);
  ticks.forEach((bits, place) => {
    bytes[2 * place] = bits & 255;
    bytes[2 * place + 1] = bits >> 8;
  });
  return bytes;
}
