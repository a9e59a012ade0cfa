// The page: joins what the other modules do, and nothing else.

import { figureLines, paintFigures } from "./figures.js";
import { HeldKeys, KeyMap, isForGames, labelOf } from "./keys.js";
import { Line, PATIENCE_MS, Unreachable, WarmingUp } from "./line.js";
import { WORLDS, answerOf, ask, fill, showLobby, tell } from "./lobby.js";
import { PROFILES, profileOf } from "./net_sim.js";
import { JPEG, canRead } from "./pictures.js";
import { PlayLog } from "./play_log.js";
import { download, savePicture, startFilm } from "./recording.js";
import { Session } from "./session.js";
import { View, shiftOf } from "./view.js";
import { nameOf, refusalOf, sentenceOf, troubleOf } from "./words.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const MOST_HISTORY = 500;
const MOST_UNREAD = 3; // blocks in a row, until the page goes on in JPEG
const SEATINGS = new Set(["joined", "left", "away", "back"]);
const TYPED = new Set(["text", "number", "search", "textarea"]); // fields that take letters
const OWN_KEYS = { checkbox: ["Space"], "select-one": ["Space", "Enter", "ArrowUp", "ArrowDown"] }; // of other fields

start().catch((mistake) => {
  $("fatal").hidden = false;
  $("fatal").textContent = `The page could not start: ${mistake.message}. Is the server running? Reload to try again.`;
});

async function start() {
  const facts = await ask("page.json", undefined, AbortSignal.timeout(PATIENCE_MS));
  $("sentences").replaceChildren(...facts.sentences.map((value) => Object.assign(document.createElement("option"), { value })));
  if (query.has("room")) await play(facts, query.get("room"));
  else showLobby(facts);
}

async function play(facts, room) {
  const qualities = await namesOfReadable(facts.tiers);
  const quality = qualities.find((name) => name === query.get("quality")) ?? qualities[0];
  $("play").hidden = false;
  document.querySelectorAll("[data-play]").forEach((each) => (each.hidden = false));
  document.title = `${room} · GameGen-X`;
  $("room-name").textContent = room;
  $("say").hidden = true; // until there is a seat to speak from
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const log = new PlayLog();
  const onPicture = (now, tick, frame) => log.picture(now, tick, frame.input_tick, ageOf(page, now, frame.t_generated));
  const onUnread = (codec, inRow) => codec !== JPEG && inRow >= MOST_UNREAD && go({ quality: "" }); // every browser reads JPEG
  const view = new View($("view"), $("marks"), { isCalm, onPicture, onUnread });
  const page = { facts, room, view, log, qualities, quality, here: new Set(), colours: facts.player_colours, history: [], status: null, world: facts.worlds[0], step: "full", film: null };
  const role = query.get("role") === "spectator" ? "spectator" : "player";
  page.session = new Session({ room, role, token: identity(), hear: (kind, message) => hear(page, kind, message) });
  page.session.resume = sessionStorage.getItem(seatKey(page)) ?? ""; // of this tab, before it was loaded again
  page.line = new Line(page.session, {
    url: socketUrl(quality),
    prepare: () => prepare(page),
    held: () => heldBits(page),
    profile: profileOf(location.search),
    tell: (state, said) => showTrouble(page, state, said),
  });
  addSettings(page);
  addButtons(page);
  page.line.open();
  requestAnimationFrame((now) => turn(page, now));
  setInterval(() => lookAtStatus(page), 2000);
  page.sample = () => sampleOf(page);
  window.ggx = page; // for those who look behind the page, and for its tests
}

/** The names of the tiers that this browser reads; everybody reads the first. */
async function namesOfReadable(tiers) {
  const isRead = await Promise.all(tiers.map(({ codec }) => canRead(codec)));
  return tiers.filter((_, place) => isRead[place]).map(({ name }) => name);
}

function socketUrl(quality) {
  const url = new URL("ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = new URLSearchParams({ quality });
  return url.href;
}

/** Opens the room where it is not there; waits for a server that warms up, and says how far it is. */
async function prepare(page) {
  const { answer: ready } = await answerOf("readyz", { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (ready.ready === undefined) throw new Unreachable(); // a proxy that speaks JSON
  if (!ready.ready) throw new WarmingUp(ready);
  const found = await ask("rooms", { name: page.room }, AbortSignal.timeout(PATIENCE_MS));
  Object.assign(page, { world: found.world, camera: found.camera });
  $("room-kind").textContent = WORLDS[found.world];
  $("ghost-row").hidden = !found.has_ghost;
  $("anticipate").parentElement.hidden = page.facts.anticipate[page.camera] === undefined;
  $("show-marks").parentElement.hidden = page.camera !== "overhead";
}

/** Who this browser is: a number of its own, of which recordings keep a keyed hash. */
function identity() {
  let token = localStorage.getItem("ggx.token");
  if (token === null) {
    token = [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("ggx.token", token);
  }
  return token;
}

function seatKey(page) {
  return `ggx.seat.${page.room}`;
}

// What the server says ------------------------------------------------------------------------------------------------

function hear(page, kind, message) {
  if (kind === "welcome") welcome(page, message);
  else if (kind === "frame") page.view.take(message, page.session.welcome.fps, (frame) => page.session.shown(frame.seq));
  else if (kind === "event") happened(page, message);
  else if (kind === "quality") page.step = message.name;
  else if (kind === "error") {
    if (message.code === "text_not_understood") tell($("say-said"), message.message.split(";")[0], true);
    else if (message.code === "rate_limited") tell($("say-said"), "One sentence after the other.", true);
    else if (refusalOf(message.code)) showCaption(page, refusalOf(message.code));
  }
}

function welcome(page, message) {
  if (page.keyMap !== undefined && page.keyMap.keys.join() !== message.keys.join()) location.reload(); // another game by now
  page.here = new Set(message.here);
  sessionStorage.setItem(seatKey(page), message.resume);
  if (message.role === "player") page.here.add(message.seat);
  if (page.keyMap === undefined) {
    page.keyMap = new KeyMap(message.keys, localStorage);
    page.held = new HeldKeys(page.keyMap);
    addKeys(page);
  }
  page.view.newestSeq = 0; // another game loop may count anew
  $("trouble").hidden = true;
  tell($("say-said"), "");
  $("say").hidden = message.role !== "player" || !page.facts.sentences.length;
  $("keys").hidden = message.role !== "player";
  showHere(page);
  const wanted = query.get("quality");
  const isOther = wanted && wanted !== page.quality; // said last, so that it is seen
  remember(page, message.role === "player" ? `You are ${nameOf(message.seat)}` : "You are watching");
  if (isOther) remember(page, `Pictures come as ${page.quality}: “${wanted}” is none that this server has and this browser reads`);
}

function happened(page, event) {
  const isOwn = event.subject === page.session.seat && page.session.welcome?.role === "player";
  if (isOwn && SEATINGS.has(event.kind)) return; // late news of the time before this page came back
  if (event.kind === "joined" || event.kind === "back") page.here.add(event.subject);
  if (event.kind === "left" || event.kind === "away") page.here.delete(event.subject);
  if (event.kind === "quality") page.step = event.text;
  showHere(page);
  const sentence = sentenceOf(event, page.here);
  if (sentence) remember(page, sentence, event);
}

function remember(page, sentence, event = null) {
  page.history.push({ time: new Date().toISOString(), sentence, ...(event && { kind: event.kind, tick: event.tick, subject: event.subject }) });
  if (page.history.length > MOST_HISTORY) page.history.shift();
  const item = document.createElement("li");
  item.append(Object.assign(document.createElement("time"), { textContent: new Date().toTimeString().slice(0, 5) }), sentence);
  $("history").prepend(item);
  while ($("history").children.length > MOST_HISTORY) $("history").lastChild.remove();
  showCaption(page, sentence);
}

/** Says something at the foot of the picture, for a moment. */
function showCaption(page, sentence) {
  $("caption").replaceChildren(Object.assign(document.createElement("span"), { textContent: sentence }));
  $("caption").classList.add("shown");
  clearTimeout(page.captionTimer);
  page.captionTimer = setTimeout(() => $("caption").classList.remove("shown"), 3500);
}

function showHere(page) {
  const seats = page.status?.seats ?? Math.max(...page.here, 0) + 1;
  const lines = Array.from({ length: seats }, (_, seat) => {
    const item = document.createElement("li");
    const isHere = page.here.has(seat);
    item.className = isHere ? "" : "free";
    const dot = Object.assign(document.createElement("span"), { className: "dot" });
    dot.style.setProperty("background", page.colours[seat]);
    const note = seat === page.session.seat && isHere ? "you" : isHere ? "" : page.status?.away.includes(seat) ? "away" : "free";
    item.append(dot, nameOf(seat), Object.assign(document.createElement("span"), { className: "note", textContent: note }));
    return item;
  });
  if (page.status?.spectators) lines.push(Object.assign(document.createElement("li"), { textContent: `${page.status.spectators} watching` }));
  $("here").replaceChildren(...lines);
}

function showTrouble(page, state, said) {
  $("trouble").hidden = false;
  const text = troubleOf(said, state === "over");
  if ($("trouble-said").textContent !== text) $("trouble-said").textContent = text; // it is read aloud where it is set
  $("watch").hidden = said !== "room_full";
  document.querySelector(".spinner").hidden = state === "over";
  page.held?.releaseAll();
}

async function lookAtStatus(page) {
  if (document.hidden) return;
  try {
    const status = await ask("status", undefined, AbortSignal.timeout(PATIENCE_MS));
    page.status = status.rooms.find((each) => each.name === page.room) ?? null;
  } catch {
    return; // the line says so already
  }
  if (page.status && !page.session.welcome) page.here = new Set(page.status.here); // who waits for a seat hears of nobody else
  if (page.status?.is_waiting && page.session.welcome && page.line.socket) {
    showTrouble(page, "waiting", "the model is starting again, the world waits");
    page.isWaiting = true;
  } else if (page.isWaiting && page.session.welcome) {
    page.isWaiting = false;
    $("trouble").hidden = true;
  }
  showHere(page);
}

// Every turn ----------------------------------------------------------------------------------------------------------

function turn(page, now) {
  const { session, view } = page;
  view.draw(now, anticipated(page));
  page.log.settle(now, session.keys);
  if (page.held) showKeys(page);
  const isMarked = $("show-marks").checked && page.camera === "overhead" && session.welcome;
  view.paintMarks(isMarked ? session.state() : null, session.seat, [...page.here], page.colours, 0.3);
  if (!$("figures").hidden && now - (page.figuresAt ?? 0) > 250) showFigures(page, now);
  requestAnimationFrame((next) => turn(page, next));
}

function anticipated(page) {
  const moves = page.facts.anticipate[page.camera];
  if (!moves || !$("anticipate").checked || page.session.welcome === null) return [0, 0];
  return shiftOf(page.session.keysAfter(page.view.tick), page.keyMap.keys, moves, page.view.canvas.width / 64);
}

function heldBits(page) {
  if (!page.held) return 0;
  for (const pad of navigator.getGamepads?.() ?? []) if (pad) page.held.readGamepad(pad);
  return page.held.take();
}

function showFigures(page, now) {
  const { session, view, line } = page;
  if (page.figuresAt !== undefined) {
    const kbps = (line.bytesIn - page.bytesBefore) / Math.max(now - page.figuresAt, 1);
    page.kbps = page.kbps === undefined ? kbps : 0.8 * page.kbps + 0.2 * kbps;
  }
  page.figuresAt = now;
  page.bytesBefore = line.bytesIn;
  page.figures = {
    fps: view.framesPerSecond(now),
    targetFps: session.welcome?.fps ?? 24,
    block: session.welcome?.block ?? 1,
    roundTripMs: session.estimate?.roundTripMs() ?? 0,
    ageMs: ageOf(page, now, view.stats.generatedAt) ?? 0,
    serverMs: page.status?.block_ms.p50 ?? 0,
    kbps: page.kbps ?? 0,
    pictures: `${page.quality} ${view.picture?.width ?? 0}x${view.picture?.height ?? 0}`,
    delayTicks: session.delay,
    desyncs: session.numDesyncs,
    skipped: page.status?.skipped_ticks ?? 0,
    tick: session.newest?.tick ?? -1,
    step: page.step,
    sim: query.get("sim"),
  };
  paintFigures($("figures"), figureLines(page.figures));
}

/** Milliseconds since the server had made a picture; null before the two clocks are compared. */
function ageOf(page, now, generatedAt) {
  const offset = page.session.estimate?.serverOffset() ?? null;
  return offset === null ? null : Math.max(0, now + offset - generatedAt);
}

/** What scripts that measure a page ask it for, once a second or so: see "The page" in docs/multiplayer.md. */
function sampleOf(page) {
  const { session, line, log } = page;
  return {
    now: performance.now(),
    ...log.take(),
    roundTripMs: session.estimate?.isMeasured() ? session.estimate.roundTripMs() : null,
    bytesIn: line.bytesIn,
    delayTicks: session.delay,
    desyncs: session.numDesyncs,
    step: page.step,
  };
}

// What the player does ------------------------------------------------------------------------------------------------

function addKeys(page) {
  const buttons = page.keyMap.keys.map((key) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "key" });
    button.dataset.key = key;
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      button.setPointerCapture(event.pointerId);
      page.held.press(key, `touch ${event.pointerId}`);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(end, (event) => page.held.release(key, `touch ${event.pointerId}`));
    }
    button.addEventListener("keydown", (event) => event.code === "Enter" && page.held.press(key, "enter"));
    button.addEventListener("keyup", (event) => event.code === "Enter" && page.held.release(key, "enter"));
    button.addEventListener("blur", () => page.held.release(key, "enter"));
    return button;
  });
  $("keys").replaceChildren(...buttons);
  labelKeys(page);
  addEventListener("keydown", (event) => onKey(page, event, true));
  addEventListener("keyup", (event) => onKey(page, event, false));
  addEventListener("blur", () => page.held.releaseAll());
  document.addEventListener("visibilitychange", () => document.hidden && page.held.releaseAll());
}

function labelKeys(page) {
  for (const button of $("keys").children) {
    const codes = page.keyMap.codes[button.dataset.key];
    const does = page.facts.does[button.dataset.key] ?? "";
    button.replaceChildren(codes.length ? labelOf(codes[0]) : button.dataset.key, Object.assign(document.createElement("small"), { textContent: does }));
    button.setAttribute("aria-label", `${does || button.dataset.key}, on ${codes.map(labelOf).join(" or ") || "no key"}`);
  }
}

function onKey(page, event, isDown) {
  const key = page.keyMap.keyOf(event.code);
  if (!isDown && key !== undefined) page.held.release(key, "keyboard"); // whatever has the focus by now
  if (!isDown && event.key === "Meta") page.held.releaseAll(); // macOS hides which keys came up meanwhile
  if (event.code === "F3") {
    event.preventDefault();
    if (isDown && !event.repeat) toggleFigures();
    return;
  }
  if (event.code === "Escape" && event.target.matches?.("input, textarea, select")) event.target.blur();
  if (TYPED.has(event.target.type) || OWN_KEYS[event.target.type]?.includes(event.code)) return;
  if (isDown && event.code === "Enter" && !event.target.matches?.("button, a")) {
    event.preventDefault();
    $("sentence").focus();
    return;
  }
  if (key === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isDown && event.code === "Space" && event.target.matches?.("button, a")) event.target.blur();
  event.preventDefault();
  if (isDown && !event.repeat) {
    page.held.press(key, "keyboard");
    page.log.press(event.timeStamp, page.held.bit(key), page.session.lastKeyTick);
  }
}

function showKeys(page) {
  for (const button of $("keys").children) button.classList.toggle("held", page.held.isHeld(button.dataset.key));
}

function toggleFigures() {
  $("figures").hidden = !$("figures").hidden;
  $("show-figures").setAttribute("aria-pressed", String(!$("figures").hidden));
}

function addButtons(page) {
  $("invite").addEventListener("click", () => invite(page));
  $("show-figures").addEventListener("click", toggleFigures);
  $("show-settings").addEventListener("click", () => {
    $("settings").hidden = !$("settings").hidden;
    $("show-settings").setAttribute("aria-expanded", String(!$("settings").hidden));
    if ($("settings").hidden) return;
    addKeyMap(page);
    $("settings").scrollIntoView({ block: "nearest" }); // below the picture, on a narrow screen
  });
  $("leave").addEventListener("click", () => {
    page.line.close();
    sessionStorage.removeItem(seatKey(page));
    location.search = "";
  });
  $("watch").addEventListener("click", () => go({ role: "spectator" }));
  $("say").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("sentence").value.trim();
    if (text) page.session.say(text);
    $("sentence").value = "";
    $("sentence").blur();
    tell($("say-said"), "");
  });
  $("picture").addEventListener("click", () => savePicture($("view"), `${page.room}-${page.session.newest?.tick ?? 0}`));
  $("film").addEventListener("click", () => film(page));
  $("export").addEventListener("click", () => {
    const text = JSON.stringify({ room: page.room, world: page.world, seat: page.session.seat, history: page.history }, null, 2);
    download(new Blob([text], { type: "application/json" }), `${page.room}-history.json`);
  });
  addEventListener("pagehide", () => page.line.socket?.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload()); // its line is dead, its seat's token old
}

async function invite(page) {
  const link = new URL(location.href);
  link.search = new URLSearchParams({ room: page.room });
  try {
    await navigator.clipboard.writeText(link.href);
    $("invite").textContent = "Copied";
  } catch {
    prompt("The link to this room:", link.href); // no clipboard without https
  }
  setTimeout(() => ($("invite").textContent = "Copy invite link"), 2000);
}

function film(page) {
  const button = $("film");
  if (page.film === null) {
    page.film = startFilm($("view"), `${page.room}-film`);
    if (page.film === null) return tell($("say-said"), "This browser cannot record films.", true);
  } else {
    page.film.stop();
    page.film = null;
  }
  button.textContent = page.film === null ? "Film" : "Stop film";
  button.classList.toggle("recording", page.film !== null);
  button.setAttribute("aria-pressed", String(page.film !== null));
  return undefined;
}

function addSettings(page) {
  $("settings").addEventListener("change", (event) => event.target.blur()); // the keys are the game's again
  fill($("quality"), page.qualities.map((name) => [name, name]));
  $("quality").value = page.quality;
  $("quality").addEventListener("change", () => go({ quality: $("quality").value }));
  fill($("line"), [["", "as it is"], ...Object.keys(PROFILES).map((name) => [name, `as bad as ${name}`])]);
  $("line").value = query.get("sim") ?? "";
  $("line").addEventListener("change", () => go({ sim: $("line").value }));
  const smoothen = () => $("view").classList.toggle("smooth", $("smooth").checked);
  $("smooth").checked = page.facts.is_learned; // Snowglobe's pictures are drawn pixel by pixel, a real game's are not
  $("smooth").addEventListener("change", smoothen);
  smoothen();
  $("show-ghost").addEventListener("change", () => {
    const isShown = $("show-ghost").checked;
    $("ghost").hidden = !isShown;
    $("ghost").src = isShown ? `rooms/${page.room}/truth/${Math.max(page.session.seat, 0)}.mjpeg` : "data:,";
  });
}

function go(change) {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) value ? next.set(name, value) : next.delete(name);
  location.search = next;
}

function addKeyMap(page) {
  if (!page.keyMap) return;
  const focused = [...$("keymap").querySelectorAll("button")].indexOf(document.activeElement);
  const heading = Object.assign(document.createElement("h2"), { textContent: "Keys" });
  const lines = page.keyMap.keys.map((key) => {
    const line = Object.assign(document.createElement("div"), { className: "pair" });
    const button = Object.assign(document.createElement("button"), { className: "button quiet", type: "button" });
    button.textContent = codesOf(page, key);
    button.setAttribute("aria-label", `Change the key for ${key}`);
    button.addEventListener("click", () => askForKey(page, key, button));
    line.append(key, button);
    return line;
  });
  const reset = Object.assign(document.createElement("button"), { className: "button quiet", type: "button", textContent: "Back to the usual keys" });
  reset.addEventListener("click", () => {
    page.keyMap.reset();
    addKeyMap(page);
    labelKeys(page);
  });
  $("keymap").replaceChildren(heading, ...lines, reset);
  $("keymap").querySelectorAll("button")[focused]?.focus();
}

function codesOf(page, key) {
  return page.keyMap.codes[key].map(labelOf).join(" or ") || "none";
}

/** Waits for the key to play with. Escape, a click and the loss of the focus leave it as it was. */
function askForKey(page, key, button) {
  const asking = new AbortController();
  const cancel = () => {
    asking.abort();
    button.textContent = codesOf(page, key);
  };
  const onAnswer = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTaken = isForGames(event.code);
    if (isTaken || event.key === "Escape" || event.key === "Enter") {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
    if (event.key === "Escape") cancel();
    else if (isTaken) {
      asking.abort();
      page.held.releaseAll(); // what is held may be another key now
      page.keyMap.assign(key, event.code);
      addKeyMap(page);
      labelKeys(page);
    } else if (!event.repeat) button.textContent = "another key …";
  };
  button.textContent = "press a key …";
  button.focus(); // a click does not do that everywhere
  button.addEventListener("blur", cancel, { signal: asking.signal });
  addEventListener("click", cancel, { capture: true, signal: asking.signal });
  addEventListener("keydown", onAnswer, { capture: true, signal: asking.signal });
}
