// Before anybody plays: which room, which world, and clips made to order.

import { PATIENCE_MS, Unreachable } from "./line.js";
import { nameOf } from "./words.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 3000;
const LOOKS = { overhead: "from above", third_person: "over the shoulder", first_person: "through your eyes", shared_screen: "one screen for all" };
export const WORLDS = { truth: "the game's own picture", model: "generated" };

export async function ask(url, body, signal) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const { status, answer } = await answerOf(url, { ...options, signal });
  if (status >= 400) throw Object.assign(new Error(explained(answer.detail, status)), { status });
  return answer;
}

/** What the server says in JSON, whatever its status. Throws Unreachable where it says nothing, or a proxy speaks for it. */
export async function answerOf(url, options) {
  try {
    const response = await fetch(url, options);
    return { status: response.status, answer: await response.json() };
  } catch {
    throw new Unreachable();
  }
}

function explained(detail, status) {
  if (Array.isArray(detail)) return detail.map((each) => `${each.loc[each.loc.length - 1]}: ${each.msg}`).join("; ");
  return detail ?? `the server answered ${status}`;
}

export function showLobby(facts) {
  $("lobby").hidden = false;
  $("lead").textContent = leadOf(facts);
  fill($("new-room").elements.world, facts.worlds.map((world) => [world, `${WORLDS[world]}`]));
  fill($("new-room").elements.camera, facts.cameras.map((camera) => [camera, LOOKS[camera] ?? camera]));
  $("camera-row").hidden = facts.cameras.length < 2;
  $("seed-row").firstChild.textContent = facts.is_learned ? "Beginning " : "Planet ";
  const { world, num_players: seats } = $("new-room").elements;
  Object.assign(seats, { min: facts.min_players, max: facts.max_players });
  seats.value = Math.min(Math.max(seats.value, facts.min_players), facts.max_players);
  const showChoice = () => {
    $("prompt-row").hidden = world.value !== "model" || facts.is_learned;
    tell($("form-said"), world.value === "model" ? warnOfPlayers(facts, Number(seats.value)) : "");
  };
  for (const field of [world, seats]) field.addEventListener("change", showChoice);
  showChoice();
  $("new-room").addEventListener("submit", openRoom);
  $("order").addEventListener("submit", order);
  $("order").hidden = facts.is_learned; // clips are of another game
  $("order-hint").textContent = `${facts.clip_weights} draws it from your words and keys, as fast as this server's machine allows.`;
  showRooms();
  setInterval(showRooms, POLL_MS);
}

function leadOf({ worlds, weights, is_learned: isLearned }) {
  if (isLearned) return `A world that neural networks (${weights}) learned from play: one knows where everybody goes by the keys they press, another draws what each of you sees. No game runs behind it.`;
  if (worlds.includes("model")) return `A planet whose pictures a neural network (${weights}) makes while you play. Its truth is kept by a game, so that everybody stays in the same world.`;
  return "A small planet, drawn by the game that the models learn from. Walk, roll snow, throw it at your friends, and tell the weather what to do.";
}

export function warnOfPlayers({ weights, num_players: learned }, seats) {
  if (!learned || seats <= learned) return "";
  if (learned === 1) return `${weights} draws each view by itself: the ${seats} of you will not see each other in it.`;
  return `${weights} learned from ${learned} players at a time: with ${seats}, others may be drawn wrongly or not at all.`;
}

export function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })));
}

async function openRoom(event) {
  event.preventDefault();
  const { name, world, camera, num_players: seats, seed, prompt } = event.target.elements;
  const wish = { name: name.value.trim(), world: world.value, camera: camera.value, num_players: Number(seats.value) };
  if (world.value === "model" && prompt.value.trim()) wish.prompt = prompt.value.trim();
  if (seed.value !== "") wish.seed = Number(seed.value);
  else wish.seed = Math.floor(Math.random() * 2 ** 31);
  try {
    const room = await ask("rooms", wish);
    location.search = new URLSearchParams({ ...kept(), room: room.name }).toString();
  } catch (mistake) {
    tell($("form-said"), mistake.message, true);
  }
}

function kept() {
  const sim = new URLSearchParams(location.search).get("sim");
  return sim === null ? {} : { sim };
}

async function showRooms() {
  if (document.hidden) return;
  let status;
  try {
    status = await ask("status", undefined, AbortSignal.timeout(PATIENCE_MS));
  } catch {
    showLines([line("The server does not answer. Trying again …")]);
    return;
  }
  if (!status.ready) {
    showLines([line(`Warming up: ${status.stage}, ${status.percent} %`)]);
    return;
  }
  const rooms = status.rooms.sort((a, b) => b.here.length - a.here.length);
  showLines(rooms.length ? rooms.map(roomLine) : [line("Nobody plays yet. Be the first.")]);
}

/** Shows the list anew where it has changed; the link that has the focus keeps it. */
function showLines(lines) {
  const list = $("rooms");
  if (list.innerHTML === lines.map((each) => each.outerHTML).join("")) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.href : null;
  list.replaceChildren(...lines);
  [...list.querySelectorAll("a")].find((each) => each.href === focused)?.focus({ preventScroll: true });
}

function line(text) {
  return Object.assign(document.createElement("li"), { className: "empty", textContent: text });
}

function roomLine(room) {
  const link = Object.assign(document.createElement("a"), { href: `?${new URLSearchParams({ ...kept(), room: room.name })}` });
  const name = Object.assign(document.createElement("strong"), { textContent: room.name });
  const tag = Object.assign(document.createElement("span"), { className: "tag", textContent: WORLDS[room.world] });
  const count = Object.assign(document.createElement("span"), { className: "count", textContent: `${room.here.length} of ${room.seats}` });
  link.title = room.here.length ? `${room.here.map(nameOf).join(", ")} ${room.here.length > 1 ? "are" : "is"} here` : "Nobody is here";
  link.append(name, tag, count);
  const item = document.createElement("li");
  item.append(link);
  return item;
}

async function order(event) {
  event.preventDefault();
  const { prompt, keys, num_frames: frames, instruction } = event.target.elements;
  const progress = $("order-progress");
  try {
    let job = await ask("generate", { prompt: prompt.value, keys: keys.value, num_frames: Number(frames.value), instruction: instruction.value, seed: Math.floor(Math.random() * 2 ** 31) });
    progress.hidden = false;
    while (job.stage === "waiting" || job.stage === "running") {
      tell($("order-said"), job.stage === "waiting" ? "Waiting for its turn …" : `Drawing, ${Math.round(job.percent)} %`);
      progress.value = job.percent;
      await new Promise((done) => setTimeout(done, 700));
      job = await ask(job.url.slice(1));
    }
    if (job.stage !== "done") throw new Error(job.said);
    tell($("order-said"), job.said ? `Done, but ${job.said}` : "Done.");
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("video"), { src: job.video.slice(1), controls: true, loop: true, autoplay: true, muted: true }));
    item.append(Object.assign(document.createElement("p"), { className: "hint", textContent: prompt.value }));
    $("clips").prepend(item);
  } catch (mistake) {
    tell($("order-said"), mistake.message, true);
  }
  progress.hidden = true;
}

export function tell(element, text, isBad = false) {
  element.textContent = text;
  element.classList.toggle("bad", isBad);
}
