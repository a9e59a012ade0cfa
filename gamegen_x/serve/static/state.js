// States of a world as vectors of 32-bit integers, and what changed between two of them. See "States" in docs/wire.md.

const GRID = 2 ** 28;
const NUMBERS_IN_AXES = 9;
// In a 3x3 of columns right, up, position: right[1,2,0] * up[2,0,1] - right[2,0,1] * up[1,2,0].
const FACTORS = [[3, 7, 6, 4], [6, 1, 0, 7], [0, 4, 3, 1]];

export class StateCodec {
  /** `layout` is Welcome.layout: arrays of name, kind and shape. */
  constructor(layout) {
    this.leaves = layout.map(([name, kind, shape]) => ({ name, kind, shape, size: shape.reduce((a, b) => a * b, 1) }));
    this.size = this.leaves.reduce((sum, leaf) => sum + leaf.size, 0);
    this.numAxes = this.leaves.filter((leaf) => leaf.kind === "axes").reduce((sum, leaf) => sum + leaf.size, 0) / NUMBERS_IN_AXES;
  }

  /** The folded vector that a difference makes of `base`, or of zeros. Throws where the bytes are no difference. */
  apply(base, blob) {
    const folded = base === null ? new Int32Array(this.size) : base.slice();
    const numGroups = Math.ceil(this.size / 8);
    let place = Math.ceil(numGroups / 8);
    const where = [];
    for (let group = 0; group < numGroups; group += 1) {
      if (!((blob[group >> 3] >> (group & 7)) & 1)) continue;
      const bits = blob[place++];
      for (let bit = 0; bit < 8; bit += 1) if ((bits >> bit) & 1) where.push(8 * group + bit);
    }
    const widths = where.map((_, i) => 1 + ((blob[place + (i >> 2)] >> (2 * (i & 3))) & 3));
    place += Math.ceil(where.length / 4);
    if (place + widths.reduce((a, b) => a + b, 0) !== blob.length) throw new RangeError("the bytes are no difference of two states");
    where.forEach((at, i) => {
      if (at >= this.size) throw new RangeError("a difference behind the end of the state");
      const unused = 32 - 8 * widths[i];
      let value = 0;
      for (let shift = unused; shift < 32; shift += 8) value |= blob[place++] << shift;
      folded[at] += value >> unused;
    });
    return folded;
  }

  /** The arrays of a folded vector by name: `{ shape, values }`, fractions as numbers of about 1. */
  arrays(folded) {
    const vector = this.unfolded(folded);
    const found = {};
    let place = 0;
    for (const { name, kind, shape, size } of this.leaves) {
      const part = vector.subarray(place, place + size);
      found[name] = { shape, values: kind === "axes" || kind === "fraction" ? Array.from(part, (x) => x / GRID) : Array.from(part) };
      place += size;
    }
    return found;
  }

  unfolded(folded) {
    const vector = folded.slice();
    for (let i = 0; i < this.numAxes; i += 1) {
      const at = i * NUMBERS_IN_AXES;
      FACTORS.forEach(([a, b, c, d], row) => {
        const product = vector[at + a] * vector[at + b] - vector[at + c] * vector[at + d];
        vector[at + 3 * row + 2] += roundToEven(product / GRID);
      });
    }
    return vector;
  }
}

function roundToEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

const P1 = 2654435761, P2 = 2246822519, P3 = 3266489917, P4 = 668265263, P5 = 374761393;
const mul = (a, b) => Math.imul(a, b | 0);
const rotate = (x, by) => (x << by) | (x >>> (32 - by));

/** xxh32, seed 0, over the little-endian bytes of a vector. */
export function hashOf(vector) {
  const n = vector.length;
  let place = 0;
  let h;
  if (n >= 4) {
    const lanes = [(P1 + P2) | 0, P2 | 0, 0, -P1 | 0];
    for (; place + 4 <= n; place += 4) {
      for (let lane = 0; lane < 4; lane += 1) {
        lanes[lane] = mul(rotate((lanes[lane] + mul(vector[place + lane], P2)) | 0, 13), P1);
      }
    }
    h = (rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18)) | 0;
  } else {
    h = P5 | 0;
  }
  h = (h + 4 * n) | 0;
  for (; place < n; place += 1) h = mul(rotate((h + mul(vector[place], P3)) | 0, 17), P4);
  h = mul(h ^ (h >>> 15), P2);
  h = mul(h ^ (h >>> 13), P3);
  return (h ^ (h >>> 16)) >>> 0;
}
