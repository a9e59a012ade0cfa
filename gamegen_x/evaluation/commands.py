"""Commands: what a player may be told to do in one block, each equally likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gamegen_x.schema.action_space import ActionSpace

UNLISTED = -1  # keys that are held, but are none of the commands


class Commands:
    """A list of held keys by name, e.g. `["_", "w", "a", "w+d"]` (`_` is no key), in the order of its numbers.

    Raises ValueError on an unknown key, on a command that is listed twice and on fewer than two commands.
    """

    def __init__(self, names: Sequence[str], action_space: ActionSpace) -> None:
        self.names = tuple(names)
        self.action_space = action_space
        self.rows: npt.NDArray[np.uint8] = np.concatenate([_one_row(action_space, name) for name in names])
        if len(names) < 2 or len(np.unique(self.rows, axis=0)) < len(names):
            raise ValueError(f"control is judged between two or more different commands, got {list(names)}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def chance(self) -> float:
        """The share that a player who is not heard gets right."""
        return 1 / len(self)

    def draw(self, num_clips: int, num_players: int, num_blocks: int, seed: int) -> Int[Tensor, "b p n"]:
        """Numbers of commands, independent and uniform. A clip's draws do not change when more clips are asked for."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(len(self), (num_clips, num_players, num_blocks), generator=generator)

    def actions(self, drawn: Int[Tensor, "b p n"], block_frames: int) -> Float[Tensor, "b p t k"]:
        """The keys held at every video frame."""
        keys = torch.from_numpy(self.rows).float()[drawn]
        return repeat(keys, "b p n k -> b p (n f) k", f=block_frames)

    def numbers_of(self, actions: UInt8[Tensor, "*batch k"]) -> Int[Tensor, "*batch"]:
        """The command that each row of held keys is, or UNLISTED."""
        is_command = (rearrange(actions, "... k -> ... 1 k") == torch.from_numpy(self.rows)).all(-1)
        return torch.where(is_command.any(-1), is_command.int().argmax(-1), UNLISTED)

    def most_likely(self, key_logits: Float[Tensor, "*batch k"]) -> Int[Tensor, "*batch"]:
        """The likeliest command where keys are independent, each with its own logit."""
        held = F.logsigmoid(key_logits.float())
        free = F.logsigmoid(-key_logits.float())
        rows = torch.from_numpy(self.rows).float()
        return (held @ rows.T + free @ (1 - rows).T).argmax(-1)


def _one_row(action_space: ActionSpace, name: str) -> npt.NDArray[np.uint8]:
    rows = action_space.parse(name)
    if len(rows) != 1:
        raise ValueError(f"a command names keys held together, like 'w' or 'w+d', got {name!r}")
    return rows
