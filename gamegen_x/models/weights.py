"""Networks on disk: a safetensors file each, but for those of others; a config.json says what they are. No pickles."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.weights_folder import CONFIG, FORMAT, is_of_others, read_config

OURS = "gamegen_x.models."  # a config that comes with weights is foreign input: it may build nothing else


def save_networks(
    folder: str | Path, networks: Mapping[str, nn.Module], config: Mapping[str, Any], dtype: torch.dtype
) -> None:
    """Writes a weights folder. `config["networks"]` describes each network by `_target_` and keyword arguments.

    Raises ValueError where a network has no description. `config.json` comes last: a folder without it is unfinished.
    """
    folder = Path(folder)
    undescribed = sorted(set(networks) - set(config["networks"]))
    if undescribed:
        raise ValueError(f"config['networks'] does not describe {undescribed}")
    for name, network in networks.items():
        if is_of_others(config["networks"][name]):
            continue
        tensors = {key: _stored(value, dtype) for key, value in network.state_dict().items()}
        with atomic_file(folder / f"{name}.safetensors") as path:
            save_file(tensors, path)
    with atomic_file(folder / CONFIG) as path:
        path.write_text(json.dumps({"format": FORMAT, **config}, indent=2) + "\n")


def load_network(folder: str | Path, name: str) -> nn.Module:
    """Builds one network of a weights folder and fills it, in fp32 and eval mode, on the CPU.

    One of others (T5) is as its `path` has it.
    """
    description = read_config(folder)["networks"].get(name)
    if description is None:
        known = sorted(read_config(folder)["networks"])
        raise ValueError(f"{folder} has no network {name!r}, only {known}; was that stage trained?")
    network = build_network(description)
    if not is_of_others(description):
        fill(network, Path(folder) / f"{name}.safetensors")
    return network.eval()


def build_network(description: Mapping[str, Any]) -> nn.Module:
    """A network from its `_target_` (of this package only) and keyword arguments."""
    make = _maker(description)
    try:
        network: nn.Module = make()
    except TypeError as mistake:
        raise ValueError(
            f"the weights' config does not fit {description['_target_']} of this version: {mistake}"
        ) from mistake
    return network


def _maker(description: Mapping[str, Any]) -> Callable[..., nn.Module]:
    """The class that a description names, with its arguments; a part with `_partial_` is made by what it belongs to."""
    arguments = {
        name: _maker(value) if isinstance(value, Mapping) and value.get("_partial_") else value
        for name, value in description.items()
        if name != "_partial_"
    }
    target = str(arguments.pop("_target_", ""))
    if not target.startswith(OURS):
        raise ValueError(f"weights may build networks of {OURS[:-1]} only, their config names {target!r}")
    module_name, _, class_name = target.rpartition(".")
    try:
        network_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError):
        raise ValueError(f"the weights' config names {target!r}, which this version does not have") from None
    if not (inspect.isclass(network_class) and issubclass(network_class, nn.Module)):
        raise ValueError(f"the weights' config names {target!r}, which is no network")
    return partial(network_class, **arguments)


def fill(network: nn.Module, path: Path, may_lack: Collection[str] = (), may_leave: Collection[str] = ()) -> list[str]:
    """Loads a safetensors file into a network. Raises ValueError that names the first tensors that do not fit.

    Parts that the file `may_lack` (by a name anywhere in a tensor's) stay as they are: they are new, and start so that
    they change nothing. Where the file has an embedding of the state for fewer channels, the others start at zero.
    Tensors of parts that it `may_leave` and the network does not have are left out; their names are returned.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; a weights folder holds one .safetensors file for each network")
    try:
        tensors = load_file(path)
    except SafetensorError as mistake:
        raise ValueError(f"{path} is not a safetensors file (pickles are never read): {mistake}") from None
    expected = network.state_dict()
    left = sorted(key for key in tensors.keys() - expected.keys() if set(may_leave) & set(key.split(".")))
    tensors = {key: value for key, value in tensors.items() if key not in left}
    for key in expected.keys() & tensors.keys():
        if may_lack and "embed_state" in key.split("."):
            tensors[key] = _widened(tensors[key], expected[key])
    lacking = {key for key in expected.keys() - tensors.keys() if set(may_lack) & set(key.split("."))}
    wrong = [f"{key} is missing" for key in expected.keys() - tensors.keys() - lacking]
    wrong += [f"{key} is unknown" for key in tensors.keys() - expected.keys()]
    wrong += [
        f"{key} is {list(tensors[key].shape)}, expected {list(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:3])
        raise ValueError(f"{path} does not fit {type(network).__name__}, weights of another preset? {shown}")
    found = {key: value.to(expected[key].dtype) for key, value in tensors.items()}
    network.load_state_dict({**{key: expected[key] for key in lacking}, **found})
    return left


def _widened(found: Tensor, expected: Tensor) -> Tensor:
    """The weight `[out in ...]` for as many inputs as are expected, if all else fits; as it is otherwise."""
    if found.ndim < 2 or found.shape[1] >= expected.shape[1] or found.shape[2:] != expected.shape[2:]:
        return found
    wide = found.new_zeros(len(found), *expected.shape[1:])
    wide[:, : found.shape[1]] = found
    return wide


def fingerprint(network: nn.Module) -> str:
    """A short hash of all values of a network, for naming what was made with it."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    kept = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # tied weights may not share memory
    return kept.to(dtype) if kept.is_floating_point() else kept
