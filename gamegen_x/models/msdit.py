"""MSDiT: the masked spatio-temporal diffusion transformer (GameGen-X, section 3.2).

Blocks come in pairs, spatial then temporal, as in Open-Sora 1.2's STDiT3, whose structure this keeps: one time
projection shared by all blocks plus a learned table each, plain cross-attention to the text, RMS-normalised queries
and keys, positions of the picture added once and rotary positions in time. The mask of the paper is a time: a context
frame stands at time 1 (data), every frame may stand at its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.models.layers.attention import CrossAttention, SelfAttention
from gamegen_x.models.layers.checkpointing import run_block
from gamegen_x.models.layers.expectation import Expectation, velocity_around
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.layers.modulation import TIME_SCALE, MetadataEmbedder, ScalarEmbedder, VideoMetadata, modulate
from gamegen_x.models.layers.patches import Patchify, unpatchify
from gamegen_x.models.layers.positions import RotaryPositions, picture_positions
from gamegen_x.models.layers.rows import RowLinear
from gamegen_x.models.players.company import Company, MakeMix

NORM_EPS = 1e-6


class Block(nn.Module):
    """Self-attention within frames (spatial) or along time (temporal), cross-attention, perceptron.

    With `players` a spatial block also looks at the other players' tokens of the same frame.
    Gates of a spatial block start at zero. A temporal block starts as the identity by its output projections, and its
    gates start near one: two zeros in one path would never learn.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        temporal: bool,
        causal: bool,
        has_text: bool,
        rotary_base: float,
        players: MakeMix | None = None,
    ) -> None:
        super().__init__()
        self.temporal = temporal
        rotary = RotaryPositions(dim // num_heads, rotary_base) if temporal else None
        self.attention = SelfAttention(dim, num_heads, causal=temporal and causal, rotary=rotary)
        self.cross_attention = CrossAttention(dim, num_heads) if has_text else None
        self.mlp = nn.Sequential(
            nn.Linear(dim, int(dim * mlp_ratio)), nn.GELU(approximate="tanh"), nn.Linear(int(dim * mlp_ratio), dim)
        )
        self.players = players(dim=dim, num_heads=num_heads) if players is not None and not temporal else None
        self.modulation_table = nn.Parameter(torch.zeros(6, dim))
        if temporal:
            with torch.no_grad():
                self.modulation_table[2::3] = 1.0
            _zero(self.attention.out)
            _zero(self.mlp[2])
        if self.cross_attention is not None:  # ungated, as in STDiT3: zero at its output
            _zero(self.cross_attention.out)

    def forward(
        self,
        tokens: Float[Tensor, "b t n d"],
        time_modulation: Float[Tensor, "b t 6 d"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"],
        past: PastFrames | None = None,
        company: Company | None = None,  # None: everybody is alone
    ) -> Float[Tensor, "b t n d"]:
        modulation = time_modulation + self.modulation_table
        shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp = modulation.unbind(dim=2)
        normed = modulate(norm(tokens), shift_attention, scale_attention)
        tokens = tokens + gate_attention[:, :, None] * self._attend(normed, past)
        if self.players is not None and company is not None:  # ungated: zero at its output
            tokens = tokens + self.players(normed, company)
        if self.cross_attention is not None:
            seen = self.cross_attention(rearrange(tokens, "b t n d -> b (t n) d"), text, text_mask, past)
            tokens = tokens + seen.view_as(tokens)
        return tokens + gate_mlp[:, :, None] * self.mlp(modulate(norm(tokens), shift_mlp, scale_mlp))

    def _attend(self, tokens: Float[Tensor, "b t n d"], past: PastFrames | None) -> Float[Tensor, "b t n d"]:
        b, t, n, _ = tokens.shape
        if self.temporal:
            mixed = self.attention(rearrange(tokens, "b t n d -> (b n) t d"), past)
            return rearrange(mixed, "(b n) t d -> b t n d", n=n)
        return self.attention(tokens.flatten(0, 1)).view(b, t, n, -1)


class MSDiT(nn.Module):
    """Predicts the velocity of latents `[b t c h w]`, each frame at its own time.

    Text is `[b l d_text]` with a mask; a row without any text is replaced by the learned null text. The `residuals`
    of an InstructNet are added between blocks, evenly spread. Of more output channels than input channels the first
    are the velocity (the paper's model also predicts a variance that rectified flow does not use).
    """

    def __init__(
        self,
        latent_channels: int,
        out_channels: int,
        dim: int,
        num_pairs: int,
        num_heads: int,
        mlp_ratio: float,
        patch: int,
        text_dim: int,
        max_text_tokens: int,
        causal: bool,
        temporal_cross_attention: bool,
        rotary_base: float,
        num_sinusoids: int,
        spatial_factor: int,
        players: MakeMix | None = None,  # how players see each other; None: they do not
        state_channels: int | None = None,  # of the drawn state of the world; None: it is not told
        preconditioned: bool = False,  # the network corrects an expectation, see `velocity_around`
    ) -> None:
        super().__init__()
        if out_channels < latent_channels:
            raise ValueError(f"out_channels must be at least latent_channels, got {out_channels} < {latent_channels}")
        self.latent_channels = latent_channels
        self.patch = patch
        self.causal = causal
        self.spatial_factor = spatial_factor
        self.state_channels = state_channels
        self.preconditioned = preconditioned
        self.gradient_checkpointing = False  # of passes without a past; a training sets it
        self.patchify = Patchify(latent_channels, dim, patch)
        self.embed_state = Patchify(state_channels, dim, patch) if state_channels else None
        self.embed_time = ScalarEmbedder(dim, num_sinusoids)
        self.embed_metadata = MetadataEmbedder(dim, num_sinusoids)
        self.embed_text = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.null_text = nn.Parameter(torch.randn(max_text_tokens, text_dim) * text_dim**-0.5)
        self.to_modulation = nn.Sequential(nn.SiLU(), RowLinear(dim, 6 * dim))
        self.blocks = nn.ModuleList(
            Block(
                dim,
                num_heads,
                mlp_ratio,
                temporal=temporal,
                causal=causal,
                has_text=not temporal or temporal_cross_attention,
                rotary_base=rotary_base,
                players=players,
            )
            for _ in range(num_pairs)
            for temporal in (False, True)
        )
        self.last_table = nn.Parameter(torch.zeros(2, dim))
        self.last = nn.Linear(dim, patch * patch * out_channels)
        _zero(self.to_modulation[1])
        _zero(self.last)
        if self.embed_state is not None:
            _zero(self.embed_state)

    def forward(
        self,
        latents: Float[Tensor, "b t c h w"],
        time: Float[Tensor, "b t"],
        text: Float[Tensor, "b l d_text"],
        text_mask: Bool[Tensor, "b l"],
        metadata: VideoMetadata,
        residuals: Sequence[Float[Tensor, "b t n d"]] = (),
    ) -> Float[Tensor, "b t c h w"]:
        condition = self.condition(time, metadata)
        return self.predict(
            latents, time, self.embed(latents), condition, self.modulation(condition), text, text_mask, residuals
        )

    def predict(
        self,
        latents: Float[Tensor, "b t c h w"],
        time: Float[Tensor, "b t"],
        tokens: Float[Tensor, "b t n d"],
        condition: Float[Tensor, "b t d"],
        modulation: Float[Tensor, "b t 6 d"],
        text: Float[Tensor, "b l d_text"],
        text_mask: Bool[Tensor, "b l"],
        residuals: Sequence[Float[Tensor, "b t n d"]] = (),
        past: PastFrames | None = None,
        company: Company | None = None,
        expected: Expectation | None = None,  # of a preconditioned model; None: nothing is known
    ) -> Float[Tensor, "b t c h w"]:
        """`forward` from what `embed`, `condition` and `modulation` gave: an InstructNet is shown the same."""
        text, text_mask = self.text_or_null(text, text_mask)
        (text,) = (past or PastFrames()).read_once(lambda: (self.embed_text(text),))
        after = residual_places(len(residuals), len(self.blocks))
        is_checkpointed = self.gradient_checkpointing and past is None
        for i, block in enumerate(self.blocks):
            tokens = run_block(block, is_checkpointed, tokens, modulation, text, text_mask, past, company)
            if i in after:
                tokens = tokens + residuals[after.index(i)]
        shift, scale = (condition[:, :, None] + self.last_table).unbind(dim=2)
        out = self.last(modulate(norm(tokens), shift, scale))
        height, width = (side // self.patch for side in latents.shape[-2:])
        out = unpatchify(out, height, width, self.patch)[:, :, : self.latent_channels]
        if not self.preconditioned:
            return out
        if expected is None:
            expected = Expectation.of_nothing(latents)
        return velocity_around(expected, latents, time, out)

    def embed(self, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t n d"]:
        """Tokens of latents, with the positions of the picture added."""
        tokens = self.patchify(latents)
        h, w = latents.shape[-2:]
        side = (h * w) ** 0.5 * self.spatial_factor
        places = picture_positions(h // self.patch, w // self.patch, side, tokens.shape[-1], tokens.device)
        return tokens + places.to(tokens.dtype)

    def told(
        self,
        tokens: Float[Tensor, "b t n d"],
        state: Float[Tensor, "b t c h w"] | None,
        has_state: Bool[Tensor, " b"] | None,  # None: all rows have it
    ) -> Float[Tensor, "b t n d"]:
        """Tokens that know the drawn state of the world at their place, where there is one."""
        if self.embed_state is None or state is None:
            return tokens
        embedded = self.embed_state(state)
        return tokens + (embedded if has_state is None else embedded * has_state[:, None, None, None])

    def condition(self, time: Float[Tensor, "b t"], metadata: VideoMetadata) -> Float[Tensor, "b t d"]:
        return self.embed_time(time * TIME_SCALE) + self.embed_metadata(metadata)[:, None]

    def modulation(self, condition: Float[Tensor, "b t d"]) -> Float[Tensor, "b t 6 d"]:
        return rearrange(self.to_modulation(condition), "b t (six d) -> b t six d", six=6)

    def text_or_null(
        self, text: Float[Tensor, "b l d_text"], mask: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b l d_text"], Bool[Tensor, "b l"]]:
        """Rows without text become the learned null text, cut to the same length."""
        is_null = ~mask.any(dim=1)
        null = repeat(self.null_text[: text.shape[1]], "l d -> b l d", b=len(text)).to(text.dtype)
        return torch.where(is_null[:, None, None], null, text), mask | is_null[:, None]


def residual_places(num_residuals: int, num_blocks: int) -> list[int]:
    """After which blocks the residuals of an InstructNet are added: evenly spread, the last after the last block."""
    if num_residuals > num_blocks:
        raise ValueError(f"{num_residuals} residuals do not fit between {num_blocks} blocks")
    return [(i + 1) * num_blocks // num_residuals - 1 for i in range(num_residuals)]


def norm(tokens: Float[Tensor, "*any d"]) -> Float[Tensor, "*any d"]:
    """Layer norm without affine: the modulation that follows is its affine part."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=NORM_EPS)


def _zero(linear: nn.Module) -> None:
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
