"""What Snowglobe's sky can be asked for: weather, time of day, season, and the sentences that ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

FACTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "weather": ("clear", "rain", "snow", "fog"),
        "time_of_day": ("day", "dusk", "night"),
        "season": ("summer", "autumn", "winter"),
    }
)

_PHRASES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("weather", "clear"): (
        "Clear the sky.",
        "Let the sky clear up.",
        "Stop the bad weather.",
        "Make the weather clear.",
    ),
    ("weather", "rain"): ("Let it rain.", "Make it rain.", "Start a rain shower.", "Bring rain."),
    ("weather", "snow"): ("Let it snow.", "Make it snow.", "Start a snowfall.", "Bring snow."),
    ("weather", "fog"): ("Let fog roll in.", "Make it foggy.", "Cover the land in fog.", "Bring fog."),
    ("time_of_day", "day"): ("Make it day.", "Turn night into day.", "Let the sun shine.", "Bring back daylight."),
    ("time_of_day", "dusk"): ("Make it dusk.", "Let the sun set.", "Bring the evening.", "Change the time to dusk."),
    ("time_of_day", "night"): ("Make it night.", "Let night fall.", "Turn day into night.", "Bring the darkness."),
    ("season", "summer"): (
        "Make it summer.",
        "Let summer come.",
        "Bring back the summer.",
        "Change the season to summer.",
    ),
    ("season", "autumn"): (
        "Make it autumn.",
        "Let autumn come.",
        "Turn the leaves orange.",
        "Change the season to autumn.",
    ),
    ("season", "winter"): ("Make it winter.", "Let winter come.", "Bring the winter.", "Change the season to winter."),
}

# phrase -> (fact, class)
INSTRUCTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {phrase: effect for effect, phrases in _PHRASES.items() for phrase in phrases}
)


def _bare(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


_BY_BARE_WORDS = {_bare(phrase): effect for phrase, effect in INSTRUCTIONS.items()}


def instruction_effect(text: str) -> tuple[str, str]:
    """The (fact, class) that a sentence asks for, whatever its case and punctuation. Raises ValueError on others."""
    effect = _BY_BARE_WORDS.get(_bare(text))
    if effect is None:
        raise ValueError(f"Snowglobe does not understand {text!r}; it understands: {' '.join(INSTRUCTIONS)}")
    return effect
