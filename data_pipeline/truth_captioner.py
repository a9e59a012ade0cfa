"""TruthCaptioner: what a game tells about itself, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.clip import Clip
from data_pipeline.stages.caption_clips import Captioner
from gamegen_x.schema.caption import Caption

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_OF_WEATHER = {"rain": "rainy", "snow": "snowy", "fog": "foggy"}
_LIGHT = {"day": "daylight", "dusk": "the light of dusk", "night": "the dark of night"}
_MIN_STEP = 1e-3  # radians a frame: who moves less stands


@dataclass(frozen=True)
class TruthCaptioner(Captioner):
    """Writes all fields from what the game tells about itself, in few and regular words.

    It knows the facts `weather`, `time_of_day`, `season` (`[t]`), `terrain` (`[t p]`), `pose` (`[t p 3 3]`) and
    `visible` (`[t p p]`), and leaves out what a game does not tell. Classes are those just before the clip's keys act:
    what an instruction changes within the clip is told in `environmental_changes`, never given away in `summary`.
    """

    player_colours: Mapping[str, Sequence[str]]  # game -> a colour for each seat

    def caption(self, clip: Clip) -> Caption:
        facts = {name: self._class(clip, name, max(clip.start - 1, 0)) for name in clip.source.facts}
        players = [self._player(clip, seat) for seat in range(clip.source.num_views)]
        everyone = players[0] if len(players) == 1 else _count(len(players))
        is_moving = any(self._is_moving(clip, seat) for seat in range(len(players)))
        kind, _, motion = clip.camera.partition(": ")
        summary = [everyone, _verb(clip, is_moving, len(players)), _place(facts), _sky(facts)]
        return Caption(
            summary=_sentence(Caption.cut(" ".join(summary))),  # names of videos can be long
            game_meta=_sentence(
                clip.source.label, f"with {_count(len(players))}", kind and f"seen by {_article(kind)} camera"
            ),
            character=_sentence(" and ".join(players)),
            frame_desc=" ".join(self._actions(clip, seat, player) for seat, player in enumerate(players)),
            atmosphere=_sentence(_mood(facts)),
            environmental_basics=_sentence(_place(facts).removeprefix("through ") or "a game world"),
            main_character=self._actions(clip, 0, players[0]),
            environmental_changes=self._changes(clip),
            sky_lighting=_sentence(_LIGHT.get(facts.get("time_of_day", ""), ""), _weather_clause(facts))
            if facts
            else "",
            misc=_sentence(
                ", ".join(f"{name.replace('_', ' ')} {score:.2f}" for name, score in sorted(clip.scores.items())),
                motion and f"; camera {motion}",
                kind and f"; {kind} view",
            ),
        )

    def _class(self, clip: Clip, fact: str, frame: int, seat: int = 0) -> str:
        """The name of a fact's class at a frame of the source; a fact of each player is that of one seat."""
        values = clip.source.state.get(fact)
        if values is None:
            return ""
        row = np.asarray(values[frame])
        return clip.source.facts[fact][int(row if row.ndim == 0 else row[seat])]

    def _player(self, clip: Clip, seat: int) -> str:
        colours = self.player_colours.get(clip.source.label, ())
        return f"{_article(colours[seat])} player" if seat < len(colours) else "a player"

    def _is_moving(self, clip: Clip, seat: int) -> bool:
        pose = clip.truth.get("pose")
        if pose is None:
            return True
        places = pose[:, seat, :, 2].astype(np.float64)
        return float(np.linalg.norm(np.diff(places, axis=0), axis=-1).mean()) > _MIN_STEP if len(places) > 1 else False

    def _actions(self, clip: Clip, seat: int, player: str) -> str:
        parts = [player, "moves" if self._is_moving(clip, seat) else "stands still"]
        terrain = self._class(clip, "terrain", clip.start, seat) if "terrain" in clip.source.facts else ""
        if terrain:
            parts.append(f"on {terrain}")
        visible = clip.truth.get("visible")
        if visible is not None and clip.source.num_views > 1:
            others = [other for other in range(clip.source.num_views) if other != seat]
            share = float(visible[:, seat, others].any(axis=1).mean())
            parts.append("and sees another player" if share > 0 else "and is alone")
        return _sentence(*parts)

    def _changes(self, clip: Clip) -> str:
        changes = []
        for fact, names in clip.source.facts.items():
            values = clip.source.state.get(fact)
            if values is None or np.ndim(values[0]) > 0:
                continue
            rows = values[max(clip.start - 1, 0) : clip.stop].astype(int)
            changes += [
                f"{fact.replace('_', ' ')} turns from {names[rows[place]]} to {names[rows[place + 1]]}"
                for place in np.flatnonzero(np.diff(rows))
            ]
        return _sentence(", ".join(changes)) if changes else "Nothing changes."


def _count(num_players: int) -> str:
    return "one player" if num_players == 1 else f"{_NUMBERS[num_players]} players"


def _verb(clip: Clip, is_moving: bool, num_players: int) -> str:
    if "pose" not in clip.source.state:
        return f"play{'s' if num_players == 1 else ''} {clip.source.label}"
    if not is_moving:
        return "stands" if num_players == 1 else "stand"
    return "walks" if num_players == 1 else "walk"


def _place(facts: Mapping[str, str]) -> str:
    season, terrain = facts.get("season", ""), facts.get("terrain", "")
    if not season and not terrain:
        return ""
    where = terrain or "land"
    return f"through {_article(f'{season} {where}'.strip())}"


def _sky(facts: Mapping[str, str]) -> str:
    weather, time = facts.get("weather", ""), facts.get("time_of_day", "")
    if not weather and not time:
        return ""
    words = f"{_OF_WEATHER.get(weather, weather)} {time or 'day'}".strip()
    return f"on {_article(words)}"


def _weather_clause(facts: Mapping[str, str]) -> str:
    weather = facts.get("weather", "")
    return f"with a {weather} sky" if weather == "clear" else f"with {weather}" if weather else ""


def _mood(facts: Mapping[str, str]) -> str:
    words = [_OF_WEATHER.get(facts.get("weather", ""), facts.get("weather", "")), facts.get("time_of_day", "")]
    return f"the mood of {_article(' '.join(word for word in words if word))}" if any(words) else "a game being played"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _sentence(*parts: str) -> str:
    text = " ".join(part for part in parts if part).replace(" ;", ";").strip("; ")
    return f"{text[0].upper()}{text[1:]}." if text else ""
