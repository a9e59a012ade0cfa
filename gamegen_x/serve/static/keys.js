// What is held: keyboard, touch and gamepad as one set of the world's keys. The key map is the player's to change.

const DEFAULTS = {
  w: ["KeyW", "ArrowUp"],
  a: ["KeyA", "ArrowLeft"],
  s: ["KeyS", "ArrowDown"],
  d: ["KeyD", "ArrowRight"],
  left: ["ArrowLeft"],
  right: ["ArrowRight"],
  space: ["Space"],
  e: ["KeyE"],
  q: ["KeyQ"],
};
const STICK = 0.4; // how far a stick is pushed before it counts
const BUTTONS = { 0: "space", 1: "e", 2: "e", 3: "q", 4: "q", 5: "q", 12: "w", 13: "s", 14: "a", 15: "d" };

export class KeyMap {
  /** `storage` keeps what the player changed. */
  constructor(keys, storage) {
    this.keys = keys;
    this.storage = storage;
    this.stored = `ggx.keymap.${keys.join("+")}`; // each game has its own
    let changed = {};
    try {
      changed = JSON.parse(storage.getItem(this.stored) ?? "{}");
    } catch {
      changed = {}; // somebody else's, or half of one: the defaults will do
    }
    this.codes = Object.fromEntries(keys.map((key) => [key, changed[key] ?? usualCodes(key, keys)]));
  }

  /** The world's key for a key of the keyboard; undefined where it has none. */
  keyOf(code) {
    return this.keys.find((key) => this.codes[key].includes(code));
  }

  /** Gives a key of the keyboard to a key of the world, and takes it from any other. */
  assign(key, code) {
    for (const other of this.keys) this.codes[other] = this.codes[other].filter((each) => each !== code);
    this.codes[key] = [code];
    this.storage.setItem(this.stored, JSON.stringify(this.codes));
  }

  reset() {
    this.storage.removeItem(this.stored);
    this.codes = Object.fromEntries(this.keys.map((key) => [key, usualCodes(key, this.keys)]));
  }
}

export class HeldKeys {
  constructor(map) {
    this.map = map;
    this.sources = new Map(); // key -> what holds it down
    this.tapped = 0;
  }

  press(key, source) {
    if (!this.sources.has(key)) this.sources.set(key, new Set());
    this.sources.get(key).add(source);
    this.tapped |= this.bit(key);
  }

  release(key, source) {
    this.sources.get(key)?.delete(source);
  }

  /** The window lost sight of the keyboard: nothing is held any more. */
  releaseAll() {
    this.sources.clear();
  }

  isHeld(key) {
    return (this.sources.get(key)?.size ?? 0) > 0;
  }

  /** The keys held now as bits, with those that went down and up since the last call. */
  take() {
    let bits = this.tapped;
    this.tapped = 0;
    for (const key of this.map.keys) if (this.isHeld(key)) bits |= this.bit(key);
    return bits;
  }

  /** Reads a gamepad's sticks and buttons. */
  readGamepad(pad) {
    const wanted = new Set();
    for (const [button, key] of Object.entries(BUTTONS)) if (pad.buttons[button]?.pressed) wanted.add(key);
    const [x = 0, y = 0, turn = 0] = pad.axes;
    const { keys } = this.map;
    if (x < -STICK) wanted.add(keys.includes("a") ? "a" : "left");
    if (x > STICK) wanted.add(keys.includes("d") ? "d" : "right");
    if (y < -STICK) wanted.add("w");
    if (y > STICK) wanted.add("s");
    if (Math.abs(turn) > STICK) wanted.add(!keys.includes("left") ? "q" : turn < 0 ? "left" : "right");
    const source = `pad ${pad.index}`;
    for (const key of this.map.keys) {
      if (wanted.has(key) && !this.sources.get(key)?.has(source)) this.press(key, source);
      else if (!wanted.has(key)) this.release(key, source);
    }
  }

  bit(key) {
    const place = this.map.keys.indexOf(key);
    return place < 0 ? 0 : 1 << place;
  }
}

/** Whether a key of the keyboard may be one of the world: not those that the page, the browser or other keys need. */
export function isForGames(code) {
  return !/^(|Unidentified|Tab|Enter|NumpadEnter|Escape|ContextMenu|F\d+|Fn(Lock)?|(Caps|Num|Scroll)Lock|(Shift|Control|Alt|Meta|OS)(Left|Right))$/.test(code);
}

/** How a key of the keyboard is called on a button. */
export function labelOf(code) {
  const arrows = { ArrowUp: "↑", ArrowLeft: "←", ArrowDown: "↓", ArrowRight: "→", Space: "space" };
  return arrows[code] ?? code.replace(/^(Key|Digit)/, "").toLowerCase();
}

/** The keys of the keyboard for a key of the world, before anybody changes them. Arrows walk, unless the world's turn. */
function usualCodes(key, keys) {
  const codes = DEFAULTS[key] ?? [codeOf(key)];
  const taken = ["left", "right"].filter((each) => each !== key && keys.includes(each)).flatMap((each) => DEFAULTS[each]);
  return codes.filter((code) => !taken.includes(code));
}

function codeOf(key) {
  return key.length === 1 ? `Key${key.toUpperCase()}` : key;
}
