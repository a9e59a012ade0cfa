"""Weights of published networks, read from a local path. Nothing is downloaded, and no pickle is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def check_there(path: str | Path, what: str, where_from: str) -> None:
    """Raises FileNotFoundError that says what to put where."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"weights {path} do not exist; they should be {what}. Get them from {where_from}")


def load_weights(path: str | Path) -> dict[str, Any]:
    """A state dict from a .safetensors or a .pth file. Raises ValueError when it is neither."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if str(path).endswith(".safetensors"):
            return load_file(str(path))
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except (SafetensorError, RuntimeError, EOFError, OSError, KeyError, ValueError) as mistake:
        raise ValueError(f"{path} is not a file of weights: {mistake}") from None
    except Exception as mistake:  # what weights_only refuses has no class of its own
        raise ValueError(f"{path} holds more than weights and was not loaded: {mistake}") from None


def fill(network: Any, state: dict[str, Any], path: str | Path) -> Any:
    """Puts weights into a network. Raises ValueError that names the first members that do not fit."""
    try:
        network.load_state_dict(state)
    except RuntimeError as mistake:
        first_lines = " ".join(line.strip() for line in str(mistake).splitlines()[:3])
        raise ValueError(f"the weights in {path} are of another network: {first_lines}") from None
    return network.eval().requires_grad_(False)
