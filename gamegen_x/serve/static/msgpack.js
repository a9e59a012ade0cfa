// MessagePack, as much of it as ggx.v1 uses: nil, truth, numbers, text, bytes, arrays, maps with text keys.

const utf8 = new TextDecoder("utf-8", { fatal: true });
const toUtf8 = new TextEncoder();

/** Marks a number that is to travel as a double even where it is whole, as the wire's milliseconds may. */
export class Double {
  constructor(value) {
    this.value = value;
  }
}

export function pack(value) {
  const bytes = [];
  write(bytes, value);
  return Uint8Array.from(bytes);
}

function write(bytes, value) {
  if (value === null || value === undefined) bytes.push(0xc0);
  else if (value === true || value === false) bytes.push(value ? 0xc3 : 0xc2);
  else if (value instanceof Double) writeDouble(bytes, value.value);
  else if (typeof value === "number") Number.isInteger(value) ? writeInteger(bytes, value) : writeDouble(bytes, value);
  else if (typeof value === "string") writeText(bytes, value);
  else if (value instanceof Uint8Array) writeBytes(bytes, value);
  else if (Array.isArray(value)) {
    writeSize(bytes, value.length, 0x90, 16, [null, 0xdc, 0xdd]);
    for (const item of value) write(bytes, item);
  } else throw new TypeError(`ggx.v1 sends no ${typeof value}`);
}

function writeInteger(bytes, value) {
  if (value >= 0 && value < 128) bytes.push(value);
  else if (value < 0 && value >= -32) bytes.push(value + 256);
  else if (value >= -(2 ** 31) && value < 2 ** 31) bytes.push(0xd2, ...bigEndian(value >>> 0, 4));
  else if (value >= 0 && value < 2 ** 32) bytes.push(0xce, ...bigEndian(value, 4));
  else writeDouble(bytes, value);
}

function writeDouble(bytes, value) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  bytes.push(0xcb, ...new Uint8Array(view.buffer));
}

function writeText(bytes, value) {
  const encoded = toUtf8.encode(value);
  writeSize(bytes, encoded.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
  bytes.push(...encoded);
}

function writeBytes(bytes, value) {
  writeSize(bytes, value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
  bytes.push(...value);
}

function writeSize(bytes, size, short, limit, [one, two, four]) {
  if (size < limit) bytes.push(short | size);
  else if (size < 2 ** 8 && one !== null) bytes.push(one, size);
  else if (size < 2 ** 16) bytes.push(two, ...bigEndian(size, 2));
  else bytes.push(four, ...bigEndian(size, 4));
}

function bigEndian(value, size) {
  return Array.from({ length: size }, (_, place) => (value / 2 ** (8 * (size - 1 - place))) & 255);
}

/** The value in a message. Throws where the bytes are cut short or go on behind it. */
export function unpack(data) {
  const reader = new Reader(data);
  const value = reader.value();
  if (reader.place !== reader.bytes.length) throw new RangeError("bytes are left over behind the message");
  return value;
}

class Reader {
  constructor(data) {
    this.bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.place = 0;
  }

  value() {
    const head = this.take(1, "getUint8");
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 256;
    if (head >= 0xa0 && head < 0xc0) return this.text(head & 31);
    if (head >= 0x90 && head < 0xa0) return this.array(head & 15);
    if (head < 0x90) return this.map(head & 15);
    const kind = READERS[head];
    if (kind === undefined) throw new RangeError(`ggx.v1 uses no MessagePack of kind 0x${head.toString(16)}`);
    return kind(this);
  }

  take(size, getter) {
    const value = this.view[getter](this.place);
    this.place += size;
    return value;
  }

  raw(size) {
    if (this.place + size > this.bytes.length) throw new RangeError("the message is cut short");
    this.place += size;
    return this.bytes.subarray(this.place - size, this.place);
  }

  text(size) {
    return utf8.decode(this.raw(size));
  }

  array(size) {
    const found = [];
    for (let i = 0; i < size; i += 1) found.push(this.value());
    return found;
  }

  map(size) {
    const found = {};
    for (let i = 0; i < size; i += 1) found[this.value()] = this.value();
    return found;
  }
}

const READERS = {
  0xc0: () => null,
  0xc2: () => false,
  0xc3: () => true,
  0xc4: (r) => r.raw(r.take(1, "getUint8")),
  0xc5: (r) => r.raw(r.take(2, "getUint16")),
  0xc6: (r) => r.raw(r.take(4, "getUint32")),
  0xca: (r) => r.take(4, "getFloat32"),
  0xcb: (r) => r.take(8, "getFloat64"),
  0xcc: (r) => r.take(1, "getUint8"),
  0xcd: (r) => r.take(2, "getUint16"),
  0xce: (r) => r.take(4, "getUint32"),
  0xcf: (r) => Number(r.take(8, "getBigUint64")),
  0xd0: (r) => r.take(1, "getInt8"),
  0xd1: (r) => r.take(2, "getInt16"),
  0xd2: (r) => r.take(4, "getInt32"),
  0xd3: (r) => Number(r.take(8, "getBigInt64")),
  0xd9: (r) => r.text(r.take(1, "getUint8")),
  0xda: (r) => r.text(r.take(2, "getUint16")),
  0xdb: (r) => r.text(r.take(4, "getUint32")),
  0xdc: (r) => r.array(r.take(2, "getUint16")),
  0xdd: (r) => r.array(r.take(4, "getUint32")),
  0xde: (r) => r.map(r.take(2, "getUint16")),
};
