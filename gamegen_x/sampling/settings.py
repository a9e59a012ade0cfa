"""SamplerSettings: how networks are sampled, whether clip by clip or as a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any

from gamegen_x.diffusion.solvers import SOLVERS


@dataclass(frozen=True)
class SamplerSettings:
    """What `configs/sampler` says, checked before any network is loaded. Weights carry theirs.

    Raises ValueError for settings that no sampler takes.
    """

    num_steps: int
    solver: str
    shift: float  # of the solver's times, see `solver_times`
    guidance: float  # by the prompt; 1 is off
    window: int  # latent frames that the model sees at once
    block: int  # latent frames that are denoised together, at most
    instruction_guidance: float = 1.0  # older weights do not say, and are not led
    instruction_latents: int = 0  # how many latent frames of an instruction it leads
    limit: float | None = None  # deviations that a value of a latent may be away from 0; None: as many as it likes

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"sampler.solver is one of {list(SOLVERS)}, got {self.solver!r}")
        if self.num_steps < 1 or self.shift <= 0 or self.guidance < 0:
            raise ValueError(
                "need sampler.num_steps >= 1, sampler.shift > 0 and sampler.guidance >= 0, "
                f"got {self.num_steps}, {self.shift} and {self.guidance}"
            )
        if self.instruction_guidance < 0 or self.instruction_latents < 0:
            raise ValueError(
                "need sampler.instruction_guidance >= 0 and sampler.instruction_latents >= 0, "
                f"got {self.instruction_guidance} and {self.instruction_latents}"
            )
        if self.limit is not None and self.limit <= 0:
            raise ValueError(f"need sampler.limit > 0, or null, got {self.limit}")
        if not 1 <= self.block <= self.window:
            raise ValueError(
                f"need 1 <= sampler.block <= sampler.window (latent frames), got {self.block} and {self.window}"
            )

    @classmethod
    def of(cls, weights: Mapping[str, Any], overrides: Mapping[str, Any] = MappingProxyType({})) -> SamplerSettings:
        """What weights say (their config.json), but for overrides that are not null.

        Raises ValueError for names that are unknown, or missing.
        """
        said = {**weights["sampler"], **{name: value for name, value in overrides.items() if value is not None}}
        known = {field.name: field.default is MISSING for field in fields(cls)}
        unknown = sorted(said.keys() - known.keys())
        missing = sorted(name for name, is_needed in known.items() if is_needed and name not in said)
        if unknown or missing:
            raise ValueError(f"a sampler has {sorted(known)}; unknown are {unknown}, missing {missing}")
        return cls(**said)
