"""InstructNet: keys, instructions and video prompts -> residuals for MSDiT (GameGen-X, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.models.coding import Coding
from gamegen_x.models.layers.attention import CrossAttention
from gamegen_x.models.layers.checkpointing import run_block
from gamegen_x.models.layers.expectation import Expectation
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.layers.patches import Patchify
from gamegen_x.models.layers.rows import RowLinear
from gamegen_x.models.msdit import Block, MSDiT, norm
from gamegen_x.models.players.company import Company, MakeMix


class KeyEmbedder(nn.Module):
    """The keys held at every video frame of a latent frame, as one vector; a learned vector where no keys are given.

    "No key is held" and "nobody said which keys are held" are different: the second leaves the world to itself. All
    are of unit size: few of many inputs are ever held, and what hangs on a small vector learns slowly.
    """

    def __init__(self, num_keys: int, frames_per_latent: int, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(RowLinear(frames_per_latent * num_keys, dim), nn.SiLU(), RowLinear(dim, dim))
        self.unknown = nn.Parameter(torch.randn(dim))

    def forward(
        self, actions: Float[Tensor, "b t f k"], has_actions: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b t d_keys"]:
        embedded = self.mlp(rearrange(actions, "b t f k -> b t (f k)"))
        return norm(torch.where(has_actions[:, None, None], embedded, self.unknown.to(embedded.dtype)))


class OperationFusion(nn.Module):
    """The operation fusion expert: z + gamma * (z - mean) / deviation + beta, with gamma and beta from the keys.

    All tokens of a frame share them. Both start at zero, so an untrained InstructNet changes nothing.
    """

    def __init__(self, keys_dim: int, dim: int) -> None:
        super().__init__()
        self.to_scale_and_shift = RowLinear(keys_dim, 2 * dim)
        nn.init.zeros_(self.to_scale_and_shift.weight)
        nn.init.zeros_(self.to_scale_and_shift.bias)

    def forward(
        self, features: Float[Tensor, "b t n d"], keys: Float[Tensor, "b t d_keys"]
    ) -> Float[Tensor, "b t n d"]:
        scale, shift = rearrange(self.to_scale_and_shift(F.silu(keys)), "b t (two d) -> two b t 1 d", two=2)
        return features + norm(features) * scale + shift


class Neighbourhood(nn.Module):
    """A convolution that keeps the picture's size, as a product over rows: a row has the same bits in any batch."""

    def __init__(self, in_channels: int, out_channels: int, ring: int, bias: bool = True) -> None:
        super().__init__()
        self.ring = ring
        self.linear = nn.Linear(in_channels * (1 + 2 * ring) ** 2, out_channels, bias)

    def forward(self, picture: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h w"]:
        around = F.unfold(F.pad(picture, (self.ring,) * 4, mode="replicate"), 1 + 2 * self.ring)
        return rearrange(self.linear(around.mT.contiguous()), "n (h w) c -> n c h w", h=picture.shape[-2])


class CarryOver(nn.Module):
    """What keys make of the frame before, as far as that can be foreseen: a small convolutional network.

    `num_ways` kernels that the keys mix carry everything to where it moves, up to `ring` latents a latent frame; two
    hidden layers of `width` channels, which the keys steer, sharpen that and say how far to trust it, place by place,
    never less than if nothing were known. Where the drawn state of the world is told they see that too, so that what it
    shows (the ground that comes into view, others) is expected as well.
    It is trained by the likelihood of what came; only how tokens read the mean is trained by the flow. An untrained one
    expects nothing.
    """

    def __init__(
        self,
        latent_channels: int,
        dim: int,
        patch: int,
        keys_dim: int,
        ring: int,
        num_ways: int,
        width: int,
        least_deviation: float,
        state_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.num_ways = num_ways
        self.least_deviation = least_deviation
        self.ways = Neighbourhood(latent_channels, num_ways * latent_channels, ring)
        self.choose = RowLinear(keys_dim, num_ways)
        self.first = Neighbourhood(latent_channels, width, 1)
        self.embed_state = Neighbourhood(state_channels, width, 1, bias=False) if state_channels else None
        self.second = Neighbourhood(width, width, 1)
        self.last = Neighbourhood(width, latent_channels + 1, 1)
        self.steer = RowLinear(keys_dim, 4 * width)
        self.embed_mean = Patchify(latent_channels, dim, patch)
        for linear in (self.choose, self.last.linear):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        if self.embed_state is not None:
            nn.init.zeros_(self.embed_state.linear.weight)

    def forward(
        self,
        frame_before: Float[Tensor, "b t c h w"],
        keys: Float[Tensor, "b t d_keys"],
        state: Float[Tensor, "b t c_state h w"] | None = None,  # zeros where it is not told
    ) -> Expectation:
        """Of each frame; of one with none before it (zeros) and nothing told, mean 0 and deviation 1."""
        keys = F.silu(keys).flatten(0, 1)
        before = frame_before.flatten(0, 1)
        ways = rearrange(self.ways(before), "bt (ways c) h w -> bt ways c h w", ways=self.num_ways)
        carried = (ways * self.choose(keys)[..., None, None, None]).sum(1)
        first_scale, first_shift, second_scale, second_shift = self.steer(keys)[..., None, None].chunk(4, dim=1)
        seen, is_known = self.first(before), before.flatten(1).any(dim=1)
        if self.embed_state is not None and state is not None:
            seen = seen + self.embed_state(state.flatten(0, 1))
            is_known = is_known | state.flatten(0, 1).flatten(1).any(dim=1)
        hidden = F.silu(seen * (1 + first_scale) + first_shift)
        hidden = F.silu(self.second(hidden) * (1 + second_scale) + second_shift)
        sharpened, log_deviation = self.last(hidden).float().split([before.shape[1], 1], dim=1)
        is_known = is_known[:, None, None, None]
        mean = (carried.float() + sharpened) * is_known
        deviation = torch.where(is_known, log_deviation.exp().clamp(self.least_deviation, 1.0), 1.0)
        return Expectation(
            *(rearrange(part, "(b t) ... -> b t ...", t=frame_before.shape[1]) for part in (mean, deviation))
        )


class InstructionFusion(nn.Module):
    """The instruction fusion expert: frames to which an instruction applies look at its words."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.cross_attention = CrossAttention(dim, num_heads)
        nn.init.zeros_(self.cross_attention.out.weight)
        nn.init.zeros_(self.cross_attention.out.bias)

    def forward(
        self,
        features: Float[Tensor, "b t n d"],
        instruction: Float[Tensor, "b l d"],
        mask: Bool[Tensor, "b l"],
        is_instructed: Bool[Tensor, "b t"],
        past: PastFrames | None = None,
    ) -> Float[Tensor, "b t n d"]:
        seen = self.cross_attention(rearrange(features, "b t n d -> b (t n) d"), instruction, mask, past)
        return features + seen.view_as(features) * is_instructed[:, :, None, None]


class InstructBlock(nn.Module):
    """A block of the foundation's kind that listens to keys and, where it is spatial, to an instruction."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        keys_dim: int,
        temporal: bool,
        causal: bool,
        has_instruction: bool,
        rotary_base: float,
        players: MakeMix | None,
    ) -> None:
        super().__init__()
        self.operation = OperationFusion(keys_dim, dim)
        self.instruction = InstructionFusion(dim, num_heads) if has_instruction else None
        self.block = Block(
            dim, num_heads, mlp_ratio, temporal, causal, has_text=False, rotary_base=rotary_base, players=players
        )
        self.to_residual = nn.Linear(dim, dim)
        nn.init.zeros_(self.to_residual.weight)
        nn.init.zeros_(self.to_residual.bias)

    def forward(
        self,
        tokens: Float[Tensor, "b t n d"],
        keys: Float[Tensor, "b t d_keys"],
        words: Float[Tensor, "b l d"],
        mask: Bool[Tensor, "b l"],
        is_instructed: Bool[Tensor, "b t"],
        modulation: Float[Tensor, "b t 6 d"],
        past: PastFrames | None,
        company: Company | None,
    ) -> Float[Tensor, "b t n d"]:
        tokens = self.operation(tokens, keys)
        if self.instruction is not None:
            tokens = self.instruction(tokens, words, mask, is_instructed, past)
        attended: Tensor = self.block(tokens, modulation, words, mask, past, company)
        return attended


class InstructNet(nn.Module):
    """Blocks, alternately spatial and temporal, beside the foundation; each gives one residual, zero at first.

    It is shown the foundation's own tokens and modulation, and speaks before the foundation does.
    """

    def __init__(
        self,
        latent_channels: int,
        dim: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float,
        patch: int,
        num_keys: int,
        frames_per_latent: int,
        keys_dim: int,
        text_dim: int,
        causal: bool,
        temporal_cross_attention: bool,
        rotary_base: float,
        carry: Mapping[str, Any] | None = None,  # of CarryOver; None: nothing is expected
        expects_words: bool = False,  # what an instruction leads to is expected as well
        state_channels: int | None = None,  # of the drawn state of the world; None: it is not told
        players: MakeMix | None = None,  # how players see each other; None: they do not
    ) -> None:
        super().__init__()
        if expects_words and carry is None:
            raise ValueError("expects_words adds to what carry expects, which is null; set expects_words=false, too")
        self.num_keys = num_keys
        self.frames_per_latent = frames_per_latent
        self.gradient_checkpointing = False  # of passes without a past; a training sets it
        self.embed_keys = KeyEmbedder(num_keys, frames_per_latent, keys_dim)
        self.embed_text = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.carry = (
            None
            if carry is None
            else CarryOver(latent_channels, dim, patch, keys_dim=keys_dim, state_channels=state_channels, **carry)
        )
        self.embed_words: nn.Sequential | None = None
        if expects_words:
            last = RowLinear(keys_dim, keys_dim)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.embed_words = nn.Sequential(RowLinear(text_dim, keys_dim), nn.SiLU(), last)
        self.embed_prompt = Patchify(latent_channels, dim, patch)
        nn.init.zeros_(self.embed_prompt.proj.weight)
        nn.init.zeros_(self.embed_prompt.proj.bias)  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(
            InstructBlock(
                dim,
                num_heads,
                mlp_ratio,
                keys_dim,
                temporal=bool(i % 2),
                causal=causal,
                has_instruction=i % 2 == 0 or temporal_cross_attention,
                rotary_base=rotary_base,
                players=players,
            )
            for i in range(num_blocks)
        )

    def expect(
        self,
        frame_before: Float[Tensor, "b t c h w"],  # of each frame, zeros where there was none
        actions: Float[Tensor, "b t f k"],
        has_actions: Bool[Tensor, " b"],
        instruction: Float[Tensor, "b l d_text"],
        instruction_mask: Bool[Tensor, "b l"],
        is_instructed: Bool[Tensor, "b t"],
        state: Float[Tensor, "b t c_state h w"] | None = None,
        has_state: Bool[Tensor, " b"] | None = None,  # None: all rows have it
    ) -> Expectation | None:
        """What keys, words and the told state lead to, before anything of the frame is seen."""
        if self.carry is None:
            return None
        steering = self.embed_keys(actions, has_actions)
        if self.embed_words is not None:
            counted = instruction_mask[..., None].to(instruction.dtype)
            gist = (instruction * counted).sum(1) / counted.sum(1).clamp_min(1)
            steering = steering + self.embed_words(gist)[:, None] * is_instructed[..., None]
        if state is not None and has_state is not None:
            state = state * has_state[:, None, None, None, None]
        return self.carry(frame_before, steering, state)

    def forward(
        self,
        tokens: Float[Tensor, "b t n d"],
        modulation: Float[Tensor, "b t 6 d"],
        expected: Expectation | None,  # what `expect` says
        actions: Float[Tensor, "b t f k"],
        has_actions: Bool[Tensor, " b"],
        instruction: Float[Tensor, "b l d_text"],
        instruction_mask: Bool[Tensor, "b l"],
        is_instructed: Bool[Tensor, "b t"],
        video_prompt: Float[Tensor, "b t c h w"] | None,
        has_prompt: Bool[Tensor, " b"],
        past: PastFrames | None = None,
        company: Company | None = None,
    ) -> list[Float[Tensor, "b t n d"]]:
        keys = self.embed_keys(actions, has_actions)
        (words,) = (past or PastFrames()).read_once(lambda: (self.embed_text(instruction),))
        mask = instruction_mask | ~instruction_mask.any(dim=1, keepdim=True)  # nobody listens to an empty row
        if video_prompt is not None:
            tokens = tokens + self.embed_prompt(video_prompt) * has_prompt[:, None, None, None]
        if self.carry is not None:
            assert expected is not None
            tokens = tokens + self.carry.embed_mean(expected.mean.to(tokens.dtype))
        residuals = []
        is_checkpointed = self.gradient_checkpointing and past is None
        heard = keys, words, mask, is_instructed, modulation, past, company
        for each in cast(Iterable[InstructBlock], self.blocks):
            tokens = run_block(each, is_checkpointed, tokens, *heard)
            residuals.append(each.to_residual(tokens))
        return residuals

    def parts_of_expect(self) -> list[nn.Module]:
        """The parts that nothing but `expect` uses."""
        words: list[nn.Module] = [] if self.embed_words is None else [self.embed_words]
        if self.carry is None:
            return words
        return [*(part for part in self.carry.children() if part is not self.carry.embed_mean), *words]

    def start_from(self, foundation: MSDiT) -> None:
        """Copies the foundation's first blocks, and its text reading, into this network's."""
        self.embed_text.load_state_dict(foundation.embed_text.state_dict())
        pairs = zip(self.blocks, foundation.blocks, strict=False)
        for mine, theirs in cast(Iterable[tuple[InstructBlock, Block]], pairs):
            own = mine.block.state_dict()  # what only one of the two has stays as it is
            mine.block.load_state_dict(own | {k: v for k, v in theirs.state_dict().items() if k in own})
            if mine.instruction is not None and theirs.cross_attention is not None:
                mine.instruction.cross_attention.load_state_dict(theirs.cross_attention.state_dict())


def actions_per_latent(actions: Float[Tensor, "b t_video k"], coding: Coding) -> Float[Tensor, "b t f k"]:
    """The keys of the video frames inside each latent frame, as the autoencoder codes them."""
    rows = torch.from_numpy(coding.rows(actions.shape[1]))
    return rearrange(actions[:, rows.to(actions.device)], "b (t f) k -> b t f k", f=coding.temporal_factor)
