// The picture: frames are drawn at their tick's pace, moved at once by keys they do not show yet, with arrows to friends.

import { PictureReader } from "./pictures.js";

const MOST_SHIFT = 6; // pixels of the picture that anticipation may move it: more would show a mirror where the world goes on
const CATCH_UP = 0.75; // of the usual time for a picture, while more than a block waits
const MOST_WAITING = 8; // pictures
const HIDDEN_MS = 1000; // not drawn for so long: the page was hidden, shows the newest block and forgets the rest

export class View {
  /** `onPicture(now, tick, frame)` is told of every picture that is drawn for the first time, `onUnread(codec, count)` of blocks in a row that could not be read. */
  constructor(canvas, marks, { isCalm = false, onPicture = () => {}, onUnread = () => {}, reader = new PictureReader() } = {}) {
    Object.assign(this, { canvas, marks, isCalm, onPicture, onUnread, reader, numUnreadInRow: 0 });
    this.context = canvas.getContext("2d", { alpha: false });
    this.queue = [];
    this.newestSeq = 0;
    this.dueAt = this.drawnAt = 0;
    this.picture = this.painted = null;
    this.paintedShift = [0, 0];
    this.marksKey = "0"; // which arrows are painted, at which size: none
    this.size = [0, 0]; // of the largest picture so far: smaller ones are scaled up to it
    this.tick = -1; // of the picture that is shown
    this.stats = { shownAt: [], ageMs: 0, numShown: 0, generatedAt: 0, stalledMs: 0 };
  }

  /** Takes in a Frame: its pictures wait for their moment, one tick after the other. */
  async take(frame, fps, onShown) {
    const pictures = await this.reader.read(frame).catch((mistake) => this.unread(frame, mistake, onShown));
    if (pictures === undefined) return undefined;
    this.numUnreadInRow = 0;
    if (frame.seq < this.newestSeq) return onShown(frame); // a later one was decoded sooner
    this.newestSeq = frame.seq;
    pictures.forEach((bitmap, place) => this.queue.push({ bitmap, frame, tick: frame.tick + place, isLast: place === pictures.length - 1, gap: 1000 / fps, onShown }));
    while (this.queue.length > Math.max(MOST_WAITING, 2 * frame.count)) this.drop();
    return undefined;
  }

  /** A frame that this browser cannot read gives its credit back, as if it had been shown. */
  unread(frame, mistake, onShown) {
    console.error(`block ${frame.seq} in ${frame.codec} cannot be read: ${mistake.message}`);
    this.numUnreadInRow += 1;
    onShown(frame);
    this.onUnread(frame.codec, this.numUnreadInRow);
  }

  drop() {
    const { bitmap, frame, isLast, onShown } = this.queue.shift();
    bitmap.close?.();
    if (isLast) onShown(frame);
  }

  /** Draws what is due now. `shift` is how far, in pixels, the keys move the picture that it does not show yet. */
  draw(now, shift) {
    if (now - this.drawnAt > HIDDEN_MS) while (this.queue.length > (this.queue[0]?.frame.count ?? 0)) this.drop();
    this.drawnAt = now;
    const isSingle = this.queue.length > 0 && this.queue[0].frame.count === 1;
    while (isSingle && this.queue.length > 1) this.drop();
    if (this.queue.length && now >= this.dueAt - 2) {
      const { bitmap, frame, tick, isLast, gap, onShown } = this.queue.shift();
      const pace = this.queue.length >= frame.count ? CATCH_UP * gap : gap;
      this.dueAt = isSingle ? now : Math.max(this.dueAt + pace, now - gap);
      this.picture?.close?.();
      this.picture = bitmap;
      this.tick = tick;
      this.count(now, frame);
      this.onPicture(now, tick, frame);
      if (isLast) onShown(frame);
    }
    const moved = (this.isCalm ? [0, 0] : shift).map(Math.round);
    if (this.picture === null || (this.picture === this.painted && moved.join() === this.paintedShift.join())) return; // what is there stays
    this.paint(this.picture, moved);
    Object.assign(this, { painted: this.picture, paintedShift: moved });
  }

  count(now, frame) {
    const { stats } = this;
    const last = stats.shownAt[stats.shownAt.length - 1] ?? now;
    if (now - last > 250) stats.stalledMs += now - last;
    stats.numShown += 1;
    stats.generatedAt = frame.t_generated;
    stats.shownAt.push(now);
    while (stats.shownAt[0] < now - 2000) stats.shownAt.shift();
  }

  framesPerSecond(now) {
    return this.stats.shownAt.filter((each) => each > now - 2000).length / 2;
  }

  paint(bitmap, [x, y]) {
    const { canvas, context } = this;
    if (bitmap.width > this.size[0]) {
      this.size = [bitmap.width, bitmap.height];
      [canvas.width, canvas.height] = this.size;
      canvas.parentElement.classList.add("is-drawn");
      canvas.parentElement.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
    }
    context.imageSmoothingEnabled = bitmap.width < canvas.width;
    const [width, height] = this.size;
    for (const [mirrorX, left] of placesOf(x, width)) {
      for (const [mirrorY, top] of placesOf(y, height)) {
        context.setTransform(mirrorX, 0, 0, mirrorY, left, top);
        context.drawImage(bitmap, 0, 0, width, height);
      }
    }
    context.resetTransform();
  }

  /** Arrows at the edge towards players who are out of sight; none without a state. */
  paintMarks(state, seat, here, colours, reach) {
    const { marks } = this;
    const far = state ? directions(state, seat, here).filter(({ distance }) => distance >= reach) : [];
    const size = far.length ? Math.round(marks.clientWidth * (globalThis.devicePixelRatio || 1)) : 0;
    const wanted = [size, ...far.map(({ other, angle }) => `${other} ${angle.toFixed(3)}`)].join();
    if (wanted === this.marksKey) return; // a canvas that is cleared is composed anew, sixty times a second
    this.marksKey = wanted;
    marks.width = marks.height = size;
    const context = marks.getContext("2d");
    for (const { other, angle } of far) {
      context.save();
      context.translate(size / 2, size / 2);
      context.rotate(-angle);
      context.translate(size * 0.455, 0);
      context.beginPath();
      context.moveTo(size * 0.028, 0);
      context.lineTo(-size * 0.016, size * 0.022);
      context.lineTo(-size * 0.016, -size * 0.022);
      context.closePath();
      context.fillStyle = colours[other];
      context.strokeStyle = "#0b0e14cc";
      context.lineWidth = size * 0.006;
      context.stroke();
      context.fill();
      context.restore();
    }
  }
}

/** Where the others are for one seat: angle from its right hand, counter-clockwise, and radians along the planet. */
export function directions(state, seat, here) {
  const frames = state["players.frames"];
  if (frames === undefined || seat < 0) return [];
  const column = (player, which) => [0, 1, 2].map((row) => frames.values[player * 9 + row * 3 + which]);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const [right, up, place] = [0, 1, 2].map((which) => column(seat, which));
  return here
    .filter((other) => other !== seat)
    .map((other) => {
      const there = column(other, 2);
      return { other, angle: Math.atan2(dot(there, up), dot(there, right)), distance: Math.acos(Math.min(1, Math.max(-1, dot(there, place)))) };
    });
}

/** How far keys move the picture: the sum of what each does in a frame, at most MOST_SHIFT pixels. */
export function shiftOf(ticks, keys, moves, scale) {
  const total = [0, 0];
  for (const bits of ticks) {
    keys.forEach((key, place) => {
      if (!((bits >> place) & 1) || moves[key] === undefined) return;
      total[0] += moves[key][0] * scale;
      total[1] += moves[key][1] * scale;
    });
  }
  return total.map((each) => Math.min(Math.max(each, -MOST_SHIFT), MOST_SHIFT));
}

/** Where a picture moved by `shift` is drawn along one side, as (scale, offset): what it uncovers shows it mirrored, without a seam. */
export function placesOf(shift, length) {
  if (!shift) return [[1, 0]];
  return [
    [1, shift],
    [-1, shift > 0 ? shift : 2 * length + shift],
  ];
}
