"""Transition: where everybody is next, from where they were and the keys that are held."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gamegen_x.schema.weights_folder import players_stepped


@dataclass(frozen=True)
class Memory:
    """What is remembered at a frame: the recurrent state, the frame's own facts, and the places of the frame before."""

    hidden: Float[Tensor, "n d"]  # of each clip, or of each player
    places: Float[Tensor, "b p q 2"]
    known: Float[Tensor, "b p q"]  # 1 where somebody is seen, or a place is known
    before: Float[Tensor, "b p q 2"]


class Transition(nn.Module):
    """A recurrent network (GRU) that steps the places of all players (see `gamegen_x.world.places`) by a video frame.

    It stands where a game has no rules at hand (a recurrent world model of facts, not of pixels: Ha & Schmidhuber 2018,
    section 2.3, without the mixture). Places are in [-1, 1] where they are inside, `num_places` of each of
    `num_players`: whom a player sees where in the own view, or where on a map the player stands and looks.

    With `egocentric` every player is foreseen alone, by the same weights, and the last place of each is the direction
    in which it looks: changes are told as seen from there, so that a step forward is one everywhere. Then the network
    may also keep, in squares of a grid over the map, the ground on which recordings have shown players (`note`). In use
    nobody leaves it: a step that would slides along the side that stays open, as along a wall, and who is beside it
    steps onto it. (It is what the process that trains has seen: with several, only the first one's is exported.)
    """

    frequencies: Tensor
    beginnings: Float[Tensor, "n p q xy_seen"]  # of recorded clips, the newest first; NaN where none was kept yet
    ground: Bool[Tensor, "side side"]  # where players have stood, by x and y; all false where nothing was noted

    def __init__(
        self,
        num_players: int,
        num_places: int,
        num_keys: int,
        hidden: int,
        num_frequencies: int,
        fastest: float,
        num_beginnings: int,  # kept of the recordings, for worlds that begin anew
        egocentric: bool,
        ground_side: int,  # squares along each side of the map; 0: it has no ground, and players may go anywhere
    ) -> None:
        super().__init__()
        if ground_side < 0 or (ground_side and not egocentric):
            raise ValueError(
                f"ground is kept of players on a map (transition.egocentric=true), in squares; got ground_side="
                f"{ground_side} and egocentric={egocentric}"
            )
        self.num_players, self.num_places, self.num_keys = num_players, num_places, num_keys
        self.fastest = fastest  # a frame; what moves farther jumps, and has no speed
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(num_frequencies), persistent=False)
        self.register_buffer("beginnings", torch.full((num_beginnings, num_players, num_places, 3), torch.nan))
        self.register_buffer("ground", torch.zeros(ground_side, ground_side, dtype=torch.bool))
        self.egocentric = egocentric
        together = 1 if egocentric else num_players  # players whom one row of the network is of
        pairs = together * num_places
        num_features = pairs * (2 * (1 + 2 * num_frequencies) + 2 + 1) + together * num_keys
        self.into = nn.Sequential(nn.Linear(num_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.cell = nn.GRUCell(hidden, hidden)
        last = nn.Linear(hidden, pairs * 3)
        nn.init.zeros_(last.weight)  # at first everybody stands
        nn.init.zeros_(last.bias)
        self.out = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.SiLU(), last)

    def begin(self, places: Float[Tensor, "b p q 2"], known: Float[Tensor, "b p q"]) -> Memory:
        """Nothing is known but one frame. Raises ValueError where it is of other players or places."""
        num_players, num_places = known.shape[1:]
        possible = players_stepped({"num_players": self.num_players, "egocentric": self.egocentric})
        if num_places != self.num_places or num_players not in possible:
            raise ValueError(
                f"{known.shape[1]} players of {known.shape[2]} places each, but the transition network learned "
                f"{self.num_players} and {self.num_places}; set transition.num_players and transition.num_places"
            )
        rows = len(places) * (num_players if self.egocentric else 1)
        return Memory(places.new_zeros(rows, self.cell.hidden_size), places, known, places)

    @torch.no_grad()
    def keep(self, places: Float[Tensor, "b p q 2"], known: Float[Tensor, "b p q"]) -> None:
        """Keeps frames with which recorded clips began, in place of the oldest."""
        newest = torch.cat([places, rearrange(known, "b p q -> b p q 1")], dim=-1)
        self.beginnings.copy_(torch.cat([newest, self.beginnings])[: len(self.beginnings)])

    @torch.no_grad()
    def note(self, places: Float[Tensor, "*n q 2"]) -> None:
        """Notes as ground where these players stand, of those who stand on the map."""
        if self.ground.numel():
            stands = places[..., :-1, :].reshape(-1, 2)
            x, y = self._squares(stands[(stands.abs() <= 1).all(dim=-1)]).unbind(-1)
            self.ground[x, y] = True

    def begin_anew(self, number: int, num_players: int) -> Memory:
        """One of the beginnings that were kept, by any number. Raises ValueError where none was, and as `begin`."""
        kept = self.beginnings[self.beginnings.isfinite().all(dim=(1, 2, 3))]
        if not len(kept):
            raise ValueError("this transition network has kept no beginnings; train it with num_beginnings above 0")
        chosen = kept[number % len(kept)][None, :num_players]
        places = chosen[..., :2]
        if self.ground.any():  # beginnings are kept as precisely as weights are, and walls may be nearer than that
            places = torch.cat([self._nearest_ground(places[..., :-1, :]), places[..., -1:, :]], dim=-2)
        return self.begin(places, chosen[..., 2])

    def forward(self, memory: Memory, held: Float[Tensor, "b p k"]) -> tuple[Memory, Float[Tensor, "b p q"]]:
        """The next frame, in which the keys `held` act, and logits of which places are known in it.

        The memory's own facts are what was foreseen last; whoever knows better writes that into it. Gradients flow
        through the sum of all changes, not through what is read of a place: fine waves of it would make them explode.
        """
        places, before = memory.places.detach(), memory.before.detach()
        angles = rearrange(places, "b p q xy -> b p q xy 1") * self.frequencies
        moved = places - before
        if self.egocentric:
            looks = F.normalize(places[..., -1:, :], dim=-1)
            left = torch.stack([-looks[..., 1], looks[..., 0]], dim=-1)
            moved = torch.stack([(moved * looks).sum(-1), (moved * left).sum(-1)], dim=-1)
        moved = moved.clamp(-self.fastest, self.fastest) / self.fastest
        features = [places, angles.sin(), angles.cos(), moved, memory.known, held]
        read = self.into(torch.cat([feature.reshape(len(memory.hidden), -1) for feature in features], dim=1))
        hidden = self.cell(read, memory.hidden)
        foreseen = self.out(torch.cat([hidden, read], dim=1)).reshape(*memory.known.shape, 3)
        change, logits = foreseen[..., :2], foreseen[..., 2]
        if self.egocentric:
            change = change[..., :1] * looks + change[..., 1:] * left
        known = (logits > 0).to(places.dtype)
        after = memory.places + change
        if not self.training and self.ground.any():
            after = self._on_ground(places, after)
        return Memory(hidden, after, known, memory.places), logits

    def _on_ground(self, before: Float[Tensor, "b p q 2"], after: Float[Tensor, "b p q 2"]) -> Tensor:
        """Where players are after a step that does not leave the ground."""
        old, new = before[..., :-1, :], after[..., :-1, :]
        if self._is_ground(new).all():  # as nearly always
            return after
        stays = old
        for step in (
            torch.stack([old[..., 0], new[..., 1]], dim=-1),
            torch.stack([new[..., 0], old[..., 1]], dim=-1),
            new,
        ):  # the best comes last
            stays = torch.where(self._is_ground(step)[..., None], step, stays)
        stood = torch.where(self._is_ground(old)[..., None], stays, self._nearest_ground(new))
        return torch.cat([stood, after[..., -1:, :]], dim=-2)

    def _nearest_ground(self, places: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """These places where they are ground, and otherwise the middle of the square of ground that is nearest."""
        middles = (self.ground.nonzero() + 0.5) / len(self.ground) * 2 - 1
        nearest = middles[torch.cdist(places.reshape(-1, 2), middles).argmin(dim=-1)].reshape(places.shape)
        return torch.where(self._is_ground(places)[..., None], places, nearest)

    def _is_ground(self, places: Float[Tensor, "*n 2"]) -> Bool[Tensor, "*n"]:
        x, y = self._squares(places).unbind(-1)
        return self.ground[x, y] & (places.abs() <= 1).all(dim=-1)

    def _squares(self, places: Float[Tensor, "*n 2"]) -> Int[Tensor, "*n 2"]:
        side = len(self.ground)
        return ((places + 1) / 2 * side).long().clamp(0, side - 1)

    def follow(
        self, places: Float[Tensor, "b t p q 2"], known: Float[Tensor, "b t p q"], held: Float[Tensor, "b t p k"]
    ) -> Memory:
        """What is remembered at the end of frames that are all known."""
        memory = self.begin(places[:, 0], known[:, 0])
        for frame in range(1, places.shape[1]):
            memory, _ = self(memory, held[:, frame])
            memory = replace(memory, places=places[:, frame], known=known[:, frame])
        return memory

    def rollout(
        self,
        places: Float[Tensor, "b t p q 2"],
        known: Float[Tensor, "b t p q"],
        held: Float[Tensor, "b t p k"],
        is_given: Bool[Tensor, "t b"],
    ) -> tuple[Float[Tensor, "b steps p q 2"], Float[Tensor, "b steps p q"]]:
        """Places and logits of frames 1 to t - 1. In the clips in which `is_given[i]` is true, frame i + 1 is foreseen
        from the true frame i, in others from the network's own. The first frame is given to all.
        """
        memory = self.begin(places[:, 0], known[:, 0])
        foreseen, logits = [], []
        for frame in range(1, places.shape[1]):
            memory, logit = self(memory, held[:, frame])
            foreseen.append(memory.places)
            logits.append(logit)
            given = rearrange(is_given[frame], "b -> b 1 1")
            memory = replace(
                memory,
                places=torch.where(rearrange(given, "b p q -> b p q 1"), places[:, frame], memory.places),
                known=torch.where(given, known[:, frame], memory.known),
            )
        return torch.stack(foreseen, dim=1), torch.stack(logits, dim=1)
