"""Publishes the weights of a walk: a small weights folder with a model card written from the run's own files.

python -m gamegen_x.publish walk=outputs/reproduce output=weights/snowglobe-tiny
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gamegen_x.config import entry_point, to_dict
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.weights_folder import read_config


@entry_point("publish")
def main(cfg: DictConfig) -> None:
    walk, output = Path(cfg.walk), Path(cfg.output)
    for name in ("result.json", "done.json"):
        if not (walk / name).is_file():
            raise FileNotFoundError(f"{walk / name} is missing; publish takes the folder of a finished walk")
    result = json.loads((walk / "result.json").read_text())
    stages = json.loads((walk / "done.json").read_text())
    if not result["is_learned"] and not cfg.even_if_not_learned:
        raise ValueError(f"{walk} missed its gates; publish it all the same with even_if_not_learned=true")

    import torch

    from gamegen_x.models.weights import load_network, save_networks

    config = read_config(cfg.weights)
    networks = {name: load_network(cfg.weights, name) for name in config["networks"]}
    save_networks(output, networks, {k: v for k, v in config.items() if k != "format"}, getattr(torch, cfg.dtype))
    parameters = {name: sum(value.numel() for value in network.parameters()) for name, network in networks.items()}
    size = sum(path.stat().st_size for path in output.glob("*.safetensors"))
    card = model_card(output.name, to_dict(cfg)["card"], config, parameters, size, cfg.dtype, result, stages)
    with atomic_file(output / "README.md") as path:
        path.write_text(card)
    print(json.dumps({"output": str(output), "megabytes": round(size / 1e6, 2)}))


def model_card(
    name: str,
    words: Mapping[str, Any],
    config: Mapping[str, Any],
    parameters: Mapping[str, int],
    size: int,
    dtype: str,
    result: Mapping[str, Any],
    stages: Mapping[str, Mapping[str, Any]],
) -> str:
    """The card's text. Every figure and command comes from the run; only `words` are written by people."""
    keys = " ".join(config["action_space"]["keys"])
    parts = [
        f"# {name}",
        words["summary"],
        f"- {config['height']}x{config['width']} pixels, {config['fps']:g} frames a second, keys `{keys}`\n"
        f"- kind `{config['kind']}`, sampled with `{json.dumps(config['sampler'])}` unless told otherwise\n"
        f"- {size / 1e6:.1f} MB of safetensors in {dtype}, measured before they were rounded to it; "
        f"licence {words['licence']}",
        "```bash\n" + "\n".join(words["try_it"]) + "\n```",
        "## Networks",
        table(["network", "parameters"], [[part, f"{count / 1e6:.2f} M"] for part, count in parameters.items()]),
        "## Measured",
        words["measured"],
        figures(words["figures"], result),
        "## How it was made",
        words["data"],
        f"The commands, in their order; {result['seconds_total'] / 60:.0f} minutes in all, on CPUs.",
        "\n\n".join(commands(stage, facts) for stage, facts in stages.items()),
        "## Limits",
        "\n".join(f"- {limit}" for limit in words["limits"]),
    ]
    return "\n\n".join(parts) + "\n"


def figures(rows: Sequence[Mapping[str, str]], result: Mapping[str, Any]) -> str:
    """The measured figures; with those of a second recipe beside them where the walk tried one."""
    columns = {
        "this model": "value",
        "ceiling, or what it would be without": "beside",
        "foundation unfrozen": "unfrozen",
    }
    if not any(row.get("unfrozen", "") in result for row in rows):
        columns.pop("foundation unfrozen")
    return table(
        ["figure", *columns],
        [[row["name"], *(number(result, row.get(key, "")) for key in columns.values())] for row in rows],
    )


def commands(stage: str, facts: Mapping[str, Any]) -> str:
    lines = "\n".join(f"python {shlex.join(command)}" for command in facts["commands"])
    return f"{stage} ({facts['seconds']:.0f} s)\n\n```bash\n{lines}\n```"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def number(result: Mapping[str, Any], name: str) -> str:
    value = result.get(name)
    return "" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
