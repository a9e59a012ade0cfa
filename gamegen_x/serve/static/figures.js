// F3: how the line and the server are doing, in numbers that turn yellow and red.

const STEPS = {
  full: "at full quality",
  fewer_steps: "at fewer steps",
  lower_resolution: "at half the size",
  half_rate: "at half the pictures",
  drop_spectators: "without watchers",
  refuse_joins: "letting nobody in",
};

/** [text, class] for a value: good below the first bound, fair below the second. */
export function graded(value, [good, fair], isHighGood = false) {
  const is = isHighGood ? (bound) => value >= bound : (bound) => value <= bound;
  return is(good) ? "good" : is(fair) ? "fair" : "poor";
}

/** The lines of the overlay: name, text and grade. */
export function figureLines({ fps, targetFps, block, roundTripMs, ageMs, serverMs, kbps, pictures, delayTicks, desyncs, skipped, tick, step, sim }) {
  const blockMs = (1000 * block) / targetFps; // what the server has for each block
  return [
    ["fps", fps.toFixed(1), graded(fps, [0.9 * targetFps, 0.6 * targetFps], true)],
    ["rtt", `${roundTripMs.toFixed(0)} ms`, graded(roundTripMs, [60, 150])],
    ["frame age", `${ageMs.toFixed(0)} ms`, graded(ageMs, [100, 250])],
    ["server", `${serverMs.toFixed(1)} ms`, graded(serverMs, [0.6 * blockMs, blockMs])],
    ["down", `${kbps.toFixed(0)} kB/s`, ""],
    ["pictures", pictures, ""],
    ["key delay", `${delayTicks} ticks`, graded(delayTicks, [1, 3])],
    ["desyncs", `${desyncs}`, graded(desyncs, [0, 2])],
    ["left out", `${skipped} ticks`, graded(skipped, [5, 100])],
    ["tick", `${tick}`, ""],
    ["server is", STEPS[step] ?? step, step === "full" ? "good" : "fair"],
    ...(sim ? [["sim", sim, "fair"]] : []),
  ];
}

export function paintFigures(element, lines) {
  element.replaceChildren(
    ...lines.flatMap(([name, text, grade]) => [
      document.createTextNode(name.padEnd(11)),
      Object.assign(document.createElement("span"), { className: grade, textContent: `${text}\n` }),
    ]),
  );
}
