from dataclasses import asdict, replace

import pytest

from gamegen_x.sampling.settings import SamplerSettings

SETTINGS = SamplerSettings(num_steps=2, solver="euler", shift=1.0, guidance=1.0, window=3, block=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": "magic"}, r"solver is one of \['euler', 'heun'\], got 'magic'"),
        ({"block": 9}, "block <= sampler.window .* got 9 and 3"),
        ({"num_steps": 0}, "num_steps >= 1"),
        ({"shift": 0.0}, "shift > 0"),
        ({"instruction_latents": -1}, "instruction_latents >= 0, got 1.0 and -1"),
    ],
)
def test_what_no_sampler_takes_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)


def test_what_is_not_overridden_is_as_the_weights_say():
    weights = {"sampler": asdict(SETTINGS)}
    assert SamplerSettings.of(weights) == SETTINGS
    assert SamplerSettings.of(weights, {"num_steps": 7, "shift": None}) == replace(SETTINGS, num_steps=7)


def test_names_that_are_unknown_or_missing_are_told():
    with pytest.raises(ValueError, match=r"unknown are \['steps'\], missing \['num_steps'\]"):
        SamplerSettings.of({"sampler": {n: v for n, v in asdict(SETTINGS).items() if n != "num_steps"}}, {"steps": 3})
