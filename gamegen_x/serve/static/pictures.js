// Payload of a Frame -> bitmaps. Every block decodes alone, whatever came before it or was left out.

import { splitPictures } from "./wire.js";

export const JPEG = "jpeg"; // other codecs are named as WebCodecs names them
const PATIENCE_MS = 2000; // a block takes a few; a decoder that does not answer would keep all later blocks waiting
const configOf = (codec) => ({ codec, optimizeForLatency: true });

/** Whether this browser reads a codec. Beyond JPEG that takes WebCodecs: not on pages that came by plain http from elsewhere. */
export async function canRead(codec, Decoder = globalThis.VideoDecoder) {
  if (codec === JPEG) return true;
  if (Decoder === undefined) return false;
  return Decoder.isConfigSupported(configOf(codec)).then(({ supported }) => supported, () => false); // it throws at names that it never heard
}

export class PictureReader {
  /** `api` stands in for the browser's own classes where there is no browser. */
  constructor(api = globalThis) {
    Object.assign(this, { api, decoder: null, codec: null, made: [], count: 0, last: Promise.resolve() });
  }

  /** The bitmaps of a Frame, in their order. Rejects where they cannot be read. */
  async read({ codec, payload }) {
    const pictures = splitPictures(payload);
    if (codec === JPEG) return Promise.all(pictures.map((bytes) => this.api.createImageBitmap(new Blob([bytes], { type: "image/jpeg" }))));
    const found = this.last.then(() => this.readBlock(codec, pictures)); // one after the other: they share a decoder
    this.last = found.catch(() => this.giveUp());
    return found;
  }

  /** A block is whole: its first picture is a key, and once it is flushed the next one begins anew. */
  async readBlock(codec, pictures) {
    if (this.decoder?.state !== "configured" || this.codec !== codec) this.begin(codec);
    pictures.forEach((data, place) => this.decoder.decode(new this.api.EncodedVideoChunk({ type: place ? "delta" : "key", timestamp: this.count++, data })));
    await inTime(this.decoder.flush());
    const frames = this.made.splice(0);
    try {
      if (frames.length !== pictures.length) throw new Error(`a block of ${pictures.length} pictures gave ${frames.length}`);
      return await Promise.all(frames.map((frame) => this.api.createImageBitmap(frame)));
    } finally {
      frames.forEach((frame) => frame.close());
    }
  }

  /** Ends what waits for a decoder that is broken or slow: the next block has a new one. */
  giveUp() {
    if (this.decoder !== null && this.decoder.state !== "closed") this.decoder.close();
    this.made.splice(0).forEach((frame) => frame.close());
  }

  begin(codec) {
    this.giveUp();
    this.codec = codec;
    this.decoder = new this.api.VideoDecoder({ output: (frame) => this.made.push(frame), error: () => {} }); // flush() rejects with it
    this.decoder.configure(configOf(codec));
  }
}

function inTime(promise) {
  let clock;
  const late = new Promise((_, reject) => (clock = setTimeout(() => reject(new Error("the decoder does not answer")), PATIENCE_MS)));
  return Promise.race([promise, late]).finally(() => clearTimeout(clock));
}
