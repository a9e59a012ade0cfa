"""Offer: what rooms a server can have, by who says what is true in them: the game's rules, or a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gamegen_x.config import build, check_seed, to_dict
from gamegen_x.games.snowglobe_conditions import INSTRUCTIONS
from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.schema.weights_folder import players_stepped, read_config
from gamegen_x.serve.lobby import MODEL, TRUTH, RoomOrder
from gamegen_x.serve.played_world import ServedWorld, TruthWorld

LEARNED = "gamegen_x.serve.learned_truth.LearnedTruth"


@dataclass(frozen=True)
class Offer:
    """What a room may be. The first of `worlds` and of `cameras` is what it is where nobody says."""

    worlds: Sequence[str]
    cameras: Sequence[str]
    model_camera: str  # the only one in which the model draws
    fps: float
    num_players: range  # that a room may have
    action_space: str  # its name
    sentences: Sequence[str]  # that change the world
    is_learned: bool  # a network says what is true, and nobody can draw it but the model
    world: DictConfig  # what builds a room's world, but for the number of players and the camera

    def check(self, order: RoomOrder) -> None:
        """Raises ValueError where this server has no such room."""
        if order.world not in self.worlds:
            hint = "; start the server with world=model" if order.world == MODEL else ""
            raise ValueError(f"this server has the worlds {', '.join(self.worlds)}, got {order.world!r}{hint}")
        if order.world == MODEL and order.camera != self.model_camera:
            raise ValueError(f"this model has learned the camera {self.model_camera!r}, got {order.camera!r}")
        if order.camera not in self.cameras:
            raise ValueError(f"cameras are {', '.join(self.cameras)}, got {order.camera!r}")
        if order.num_players not in self.num_players:
            fewest, most = self.num_players[0], self.num_players[-1]
            said = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"these worlds have {said} players, got {order.num_players}")

    def game(self, order: RoomOrder) -> dict[str, Any]:
        """What builds the room's world: kept with its recording."""
        node = OmegaConf.merge(self.world, {"num_players": order.num_players, "camera": order.camera})
        assert isinstance(node, DictConfig)
        return to_dict(node)


def offer_of(cfg: DictConfig) -> Offer:
    """What a server with this configuration can have. Raises ValueError where nobody says what is true in its rooms."""
    if cfg.world not in (TRUTH, MODEL):
        raise ValueError(f"world is {TRUTH!r} or {MODEL!r}, got {cfg.world!r}")
    check_seed(cfg.seed)
    weights = read_config(cfg.weights) if cfg.world == MODEL else None
    if weights is None or _game_of(weights["action_space"], weights) == _game_of(cfg.game["keys"], cfg.game):
        return Offer(
            worlds=(TRUTH,) if weights is None else (MODEL, TRUTH),
            cameras=tuple(cfg.cameras),
            model_camera=str(cfg.game.camera),
            fps=float(cfg.game.fps),
            num_players=range(1, MAX_PLAYERS + 1),
            action_space=str(cfg.game["keys"]["name"]),
            sentences=sorted(INSTRUCTIONS),
            is_learned=False,
            world=cfg.game,
        )
    described = weights["networks"].get("transition")
    if described is None:
        raise ValueError(
            f"{cfg.weights} draws another game than the rooms', by {_said(weights['action_space'], weights)}; the "
            f"rooms', {cfg.game['_target_'].rpartition('.')[2]}, has {_said(cfg.game['keys'], cfg.game)}. Only "
            "weights with a transition network bring a world of their own (docs/training.md, dynamics). Watch that "
            f"game with: python sample.py weights={cfg.weights}"
        )
    possible = players_stepped(described)
    camera = str((weights.get("recorded_from") or {}).get("camera", ""))
    return Offer(
        worlds=(MODEL,),
        cameras=(camera,),
        model_camera=camera,
        fps=float(weights["fps"]),
        num_players=range(min(possible[0], MAX_PLAYERS), min(possible[-1], MAX_PLAYERS) + 1),
        action_space=str(weights["action_space"]["name"]),
        sentences=(),
        is_learned=True,
        world=OmegaConf.create({"_target_": LEARNED, "weights": Path(cfg.weights).as_posix()}),
    )


def is_learned(game: Mapping[str, Any]) -> bool:
    """Whether a network says what is true in the world that `Offer.game` describes, which then nobody can draw."""
    return bool(game["_target_"] == LEARNED)


def build_world(game: Mapping[str, Any], seed: int, weights: str | None = None) -> ServedWorld:
    """The world that `Offer.game` describes, of this seed. `weights`: where those it names are now, if elsewhere."""
    if not is_learned(game):
        return TruthWorld(build(game), seed)

    from gamegen_x.serve.learned_truth import LearnedTruth  # and torch, which other worlds do without

    return LearnedTruth(weights or game["weights"], int(game["num_players"]), str(game["camera"]), seed)


def _game_of(keys: Mapping[str, Any], described: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(keys["keys"]), int(described["height"]), int(described["width"]), float(described["fps"])


def _said(keys: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    names, height, width, fps = _game_of(keys, described)
    return f"the keys {' '.join(names)}, {height}x{width} pixels and {fps:g} frames a second"
