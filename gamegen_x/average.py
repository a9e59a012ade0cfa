"""Averages weights of one descent, parameter by parameter: what lies between two trainings, or what several agree on.

python -m gamegen_x.average "weights=[outputs/one/weights,outputs/other/weights]" "shares=[0.75,0.25]"

Networks that went on from the same weights can be averaged as they are ("model soups", Wortsman et al. 2022).
Those that began anew cannot: what comes out is noise.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from gamegen_x.config import entry_point
from gamegen_x.schema.weights_folder import CONFIG, read_config

if TYPE_CHECKING:
    from torch import Tensor

OF_EACH = ("made_by",)  # what may differ
DTYPES = ("float32", "bfloat16", "float16")


@entry_point("average")
def main(cfg: DictConfig) -> None:
    if isinstance(cfg.weights, str):
        raise ValueError(f"weights are two or more folders, as weights=[one,other], got {cfg.weights!r}")
    folders, output = [Path(folder) for folder in cfg.weights], Path(cfg.output)
    shares = [1 / max(len(folders), 1)] * len(folders) if cfg.shares is None else [float(each) for each in cfg.shares]
    check_shares(folders, shares)
    if cfg.dtype not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, got {cfg.dtype!r}")
    if (output / CONFIG).exists():
        raise ValueError(f"{output} holds weights already; choose another folder with output=<folder>")
    described = same_description(folders)

    import torch

    from gamegen_x.models.weights import load_network, save_networks

    networks = {}
    for name in described["networks"]:
        each = [load_network(folder, name) for folder in folders]
        each[0].load_state_dict(averaged([network.state_dict() for network in each], shares))
        networks[name] = each[0]
    command = f"python -m gamegen_x.average {shlex.join(sys.argv[1:])}"
    made_by = {"command": command, "averaged": [read_config(folder).get("made_by") for folder in folders]}
    kept = {key: value for key, value in described.items() if key != "format"}
    save_networks(output, networks, {**kept, "made_by": made_by}, getattr(torch, cfg.dtype))
    print(json.dumps({"output": str(output), "networks": sorted(networks), "shares": shares}))


def check_shares(folders: Sequence[Path], shares: Sequence[float]) -> None:
    """Raises ValueError unless each of at least two folders has a share, and they sum to 1."""
    if len(folders) < 2 or len(shares) != len(folders) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(
            f"two or more weights are averaged, by shares that sum to 1, one for each; got {len(folders)} folders and "
            f"the shares {list(shares)}"
        )


def same_description(folders: Sequence[Path]) -> Mapping[str, Any]:
    """What all of the folders say of themselves. Raises ValueError where they differ."""
    first, *others = (read_config(folder) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        differing = sorted(
            key for key in first.keys() | other.keys() if key not in OF_EACH and first.get(key) != other.get(key)
        )
        if differing:
            raise ValueError(
                f"{folders[0]} and {folder} are weights of another kind: they differ in {differing}; averaged are "
                "those that went on from the same weights"
            )
    return first


def averaged(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The mean of parameters of equal names and shapes; what is no number of a network's must be equal.

    Raises ValueError where it is not.
    """
    found = {}
    for name, first in states[0].items():
        each = [state[name] for state in states]
        if all(value.equal(first) for value in each):
            found[name] = first  # to the bit: latents of an autoencoder that nobody trained stay those of its caches
        elif first.is_floating_point():
            total = shares[0] * first.float()
            for value, share in zip(each[1:], shares[1:], strict=True):
                total = total + share * value.float()
            found[name] = total.to(first.dtype)
        else:
            raise ValueError(f"{name} is not the same in all of the weights, and has no mean")
    return found


if __name__ == "__main__":
    main()
