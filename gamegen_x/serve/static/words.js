// What happened, in words that somebody who does not look at the picture understands too.

const NAMES = ["Red", "Yellow", "Purple", "Cyan", "Orange", "Pink", "Navy", "Lime"];

export function nameOf(seat) {
  return seat < 0 ? "A watcher" : (NAMES[seat] ?? `Player ${seat + 1}`);
}

const WORDS = {
  joined: (who) => `${who} joined`,
  left: (who) => `${who} left`,
  away: (who) => `${who} lost the connection`,
  back: (who) => `${who} is back`,
  said: (who, text) => `${who}: “${text}”`,
  met: (who) => `You met ${who}`,
  parted: (who) => `You and ${who} parted`,
  delivered: () => "A snowball reached the fort",
  chased: () => "The pests were chased away",
  rolled_together: (who) => `${who} rolled a big snowball together with somebody`,
  picked_up: () => "You picked up snow",
  hit: (who) => `${who} hit you with a snowball`,
};

/** The sentence for an event, or an empty one for what is not worth a line: bodies without a player meet nobody. */
export function sentenceOf(event, here) {
  if ((event.kind === "met" || event.kind === "parted") && !here.has(event.subject)) return "";
  const say = WORDS[event.kind];
  return say === undefined ? "" : say(nameOf(event.subject), event.text);
}

/** What to do about a line that is down, or that is over for good. */
export function troubleOf(said, isOver = false) {
  const known = {
    room_full: "Every seat is taken, or kept for half a minute for somebody who was here. You get the next free one, or watch.",
    unknown_room: "Opening the room again …",
    replaced: "You continued in another window. This one can be closed.",
    going_away: "The server is restarting. Your seat is kept, and this page comes back by itself …",
    flooding: "This page sent too much at once and was shut out. Reload to come back.",
    unknown_protocol: "This page is older than the server. Reload it.",
    overloaded: "The server is at its limit. Trying again …",
    resume_refused: "Your seat was given away while you were gone. Taking a new one …",
  };
  if (known[said]) return known[said];
  if (isOver) return `The server refuses: ${said}.`;
  return said ? `${said[0].toUpperCase()}${said.slice(1)}. Trying again …` : "Connecting …";
}

/** What to say of keys that the server did not take; empty for what is no matter of keys. */
export function refusalOf(code) {
  const known = {
    input_in_future: "Your last keys came too early and were left out: the world is slower than it should be.",
    input_too_late: "Your last keys came too late and were left out: the line is slow.",
  };
  return known[code] ?? "";
}
