"""VideoVAE: a causal 3-D video autoencoder, whole clips or streamed.

Layout of the paper's model (GameGen-X, section 3.1; MAGVIT-v2): a 2-D image part compresses space by 8, causal
3-D convolutions compress time by 4, and the decoder mirrors both. Every layer is causal in time and normalises each
frame by itself, so that a stream gives what the whole clip gives.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.models.coding import Coding


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents."""

    mean: Float[Tensor, "b t c h w"]
    log_variance: Float[Tensor, "b t c h w"]

    def sample(self, noise: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def kl(self) -> Float[Tensor, ""]:
        """Kullback-Leibler divergence from the standard normal, in nats, mean over latent values."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).mean()


@dataclass(frozen=True)
class Stage:
    """One level of the pyramid, seen from the pixels: shrink by `factor`, then work at `channels`.

    `temporal_kernel` 1 is a 2-D image stage; 2 or more looks that many frames back. `resample` is "shuffle"
    (space-to-depth and a projection: fast) or "conv" (a strided convolution, as in Stable Diffusion's image VAE).
    """

    factor: Sequence[int]  # time, height, width
    channels: int
    encoder_blocks: int
    decoder_blocks: int
    temporal_kernel: int
    resample: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", tuple(self.factor))
        if len(self.factor) != 3:
            raise ValueError(f"a stage's factor is [time, height, width], got {list(self.factor)}")
        if self.resample not in ("shuffle", "conv"):
            raise ValueError(f"resample is 'shuffle' or 'conv', got {self.resample!r}")
        if self.resample == "conv" and self.factor not in ((1, 1, 1), (1, 2, 2)):
            raise ValueError(f"resample 'conv' halves height and width, factor [1, 2, 2]; got {list(self.factor)}")


class Tape:
    """What causal layers saw last, in the order in which they are called. Played once, while a new one is recorded."""

    def __init__(self, played: Sequence[Tensor]) -> None:
        self.played = iter(played)
        self.recorded: list[Tensor] = []

    def with_past(self, frames: Float[Tensor, "b t c h w"], num_past: int) -> Float[Tensor, "b t_more c h w"]:
        past = next(self.played, None)
        if past is None:  # a stream begins: nothing was there
            past = frames.new_zeros(frames.shape[0], num_past, *frames.shape[2:])
        longer = torch.cat([past, frames], dim=1)
        self.recorded.append(longer[:, longer.shape[1] - num_past :])
        return longer


class CausalConv(nn.Module):
    """A 3-D convolution over the present frame and `temporal_kernel` - 1 past ones, as a 2-D one over stacked frames.

    The two are the same sum; the 2-D form is several times faster on CPUs and keeps channels-last memory.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, temporal_kernel: int) -> None:
        super().__init__()
        self.num_past = temporal_kernel - 1
        self.conv = nn.Conv2d(in_channels * temporal_kernel, out_channels, kernel, padding=kernel // 2)

    def forward(self, frames: Float[Tensor, "b t c h w"], tape: Tape) -> Float[Tensor, "b t c_out h w"]:
        num_frames = frames.shape[1]
        if self.num_past:
            longer = tape.with_past(frames, self.num_past)
            frames = torch.cat([longer[:, i : i + num_frames] for i in range(self.num_past + 1)], dim=2)
        return unfold(self.conv(fold(frames)), num_frames)


class ResidualBlock(nn.Module):
    """Norm, convolution, convolution, added to what came in. The last convolution starts at zero."""

    def __init__(self, channels: int, temporal_kernel: int, num_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups, channels)
        self.first = CausalConv(channels, channels, 3, temporal_kernel)
        self.second = CausalConv(channels, channels, 3, 1)
        nn.init.zeros_(self.second.conv.weight)
        nn.init.zeros_(self.second.conv.bias)  # type: ignore[arg-type]

    def forward(self, frames: Float[Tensor, "b t c h w"], tape: Tape) -> Float[Tensor, "b t c h w"]:
        normed = unfold(F.silu(self.norm(fold(frames))), frames.shape[1])
        return frames + self.second(F.silu(self.first(normed, tape)), tape)


class Shrink(nn.Module):
    """Fewer, wider frames: space-to-depth and a projection, or a strided convolution."""

    def __init__(self, in_channels: int, stage: Stage, kernel: int) -> None:
        super().__init__()
        self.factor = stage.factor
        self.is_strided = stage.resample == "conv" and stage.factor != (1, 1, 1)
        folded = in_channels if self.is_strided else in_channels * math.prod(stage.factor)
        self.project = (
            nn.Conv2d(folded, stage.channels, 3, stride=2) if self.is_strided else _conv(folded, stage.channels, kernel)
        )

    def forward(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t_less c_out h_less w_less"]:
        if self.is_strided:
            return unfold(self.project(F.pad(fold(frames), (0, 1, 0, 1))), frames.shape[1])
        t, h, w = self.factor
        frames = rearrange(frames, "b (t ft) c (h fh) (w fw) -> b t (ft c fh fw) h w", ft=t, fh=h, fw=w)
        return unfold(self.project(fold(frames)), frames.shape[1])


class Grow(nn.Module):
    """The inverse of Shrink."""

    def __init__(self, stage: Stage, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.factor = stage.factor
        self.is_strided = stage.resample == "conv" and stage.factor != (1, 1, 1)
        folded = out_channels if self.is_strided else out_channels * math.prod(stage.factor)
        self.project = _conv(stage.channels, folded, 3 if self.is_strided else kernel)

    def forward(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t_more c_out h_more w_more"]:
        num_frames = frames.shape[1]
        if self.is_strided:
            return unfold(self.project(F.interpolate(fold(frames), scale_factor=2.0)), num_frames)
        t, h, w = self.factor
        grown = unfold(self.project(fold(frames)), num_frames)
        return rearrange(grown, "b t (ft c fh fw) h w -> b (t ft) c (h fh) (w fw)", ft=t, fh=h, fw=w)


class Encoder(nn.Module):
    def __init__(self, stages: Sequence[Stage], latent_channels: int, latent_kernel: int, num_groups: int) -> None:
        super().__init__()
        self.shrinks = nn.ModuleList()
        self.blocks = nn.ModuleList()
        channels = 3
        for i, stage in enumerate(stages):
            self.shrinks.append(Shrink(channels, stage, kernel=3 if i == 0 else 1))
            channels = stage.channels
            self.blocks.append(_blocks(stage.encoder_blocks, stage, num_groups))
        self.norm = nn.GroupNorm(num_groups, channels)
        self.out = CausalConv(channels, 2 * latent_channels, 3, latent_kernel)

    def forward(self, frames: Float[Tensor, "b t_video c h_video w_video"], tape: Tape) -> Float[Tensor, "b t c2 h w"]:
        for shrink, blocks in zip(self.shrinks, self.blocks, strict=True):
            frames = shrink(frames)
            for block in blocks:  # type: ignore[attr-defined]
                frames = block(frames, tape)
        return self.out(unfold(F.silu(self.norm(fold(frames))), frames.shape[1]), tape)


class Decoder(nn.Module):
    """Latents to video: a VideoVAE's own, or a smaller one for live play that reads the same latents."""

    def __init__(
        self,
        stages: Sequence[Stage | Mapping[str, Any]],
        latent_channels: int,
        latent_kernel: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        stages = _stages(stages, num_groups)
        self.factor, self.latent_channels = _product(stages), latent_channels
        deepest = stages[-1]
        self.into = CausalConv(latent_channels, deepest.channels, 3, latent_kernel)
        self.blocks = nn.ModuleList(_blocks(stage.decoder_blocks, stage, num_groups) for stage in reversed(stages))
        self.grows = nn.ModuleList(
            Grow(stage, previous.channels, kernel=1) for previous, stage in reversed(list(pairwise(stages)))
        )
        self.norm = nn.GroupNorm(num_groups, stages[0].channels)
        self.out = Grow(stages[0], 3, kernel=3)

    def forward(self, latents: Float[Tensor, "b t c h w"], tape: Tape) -> Float[Tensor, "b t_video 3 h_video w_video"]:
        frames = self.into(latents, tape)
        for level, blocks in enumerate(self.blocks):
            if level:
                frames = self.grows[level - 1](frames)
            for block in blocks:  # type: ignore[attr-defined]
                frames = block(frames, tape)
        return self.out(unfold(F.silu(self.norm(fold(frames))), frames.shape[1]))


@dataclass(frozen=True)
class EncoderStream:
    """What an encoder remembers of a stream: past features, and frames that do not fill a latent frame yet."""

    past: tuple[Tensor, ...]
    waiting: Float[Tensor, "b t_waiting 3 h_video w_video"] | None


@dataclass(frozen=True)
class DecoderStream:
    past: tuple[Tensor, ...]


class VideoVAE(nn.Module):
    """Compresses video `[b t 3 h w]` in [-1, 1] into latents with fewer frames and pixels, and back.

    A latent frame stands for `temporal_factor` video frames. A clip whose length is no multiple of it is led by
    copies of its first frame. With `chunk_frames` (17 in the paper) a clip is coded in chunks of that many
    frames, each by itself: 17 frames give 5 latent frames and 102 give 30. With None the whole clip is one chunk.
    `latent_kernel` latent frames are looked at where latents are made and where they are read.
    """

    def __init__(
        self,
        latent_channels: int,
        latent_kernel: int,
        stages: Sequence[Stage | Mapping[str, Any]],
        num_groups: int,
        chunk_frames: int | None,
        max_log_variance: float,
        min_log_variance: float,
    ) -> None:
        super().__init__()
        levels = _stages(stages, num_groups)
        self.latent_channels = latent_channels
        self.temporal_factor, self.spatial_factor, width_factor = _product(levels)
        if self.spatial_factor != width_factor:
            raise ValueError(f"height and width must shrink alike, got factors {[level.factor for level in levels]}")
        self.chunk_frames = chunk_frames
        self.log_variance_range = (min_log_variance, max_log_variance)
        self.encoder = Encoder(levels, latent_channels, latent_kernel, num_groups)
        self.decoder = Decoder(levels, latent_channels, latent_kernel, num_groups)

    def num_latent_frames(self, num_frames: int) -> int:
        return self.coding.num_latent_frames(num_frames)

    @property
    def coding(self) -> Coding:
        return Coding(self.temporal_factor, self.chunk_frames)

    @property
    def unit_frames(self) -> int:
        return self.coding.unit_frames

    def encode(self, video: Float[Tensor, "b t_video 3 h_video w_video"]) -> Posterior:
        """The posterior over latents `[b t c h w]` of a whole clip. Raises ValueError on a size it cannot halve."""
        self._check_size(video)
        parts = []
        for chunk in video.split(self.coding.chunks(video.shape[1]), dim=1):
            lead = -chunk.shape[1] % self.temporal_factor
            led = torch.cat([chunk[:, :1].expand(-1, lead, -1, -1, -1), chunk], dim=1)
            parts.append(self.encoder(led, Tape(())))
        return self._posterior(torch.cat(parts, dim=1))

    def decode(
        self, latents: Float[Tensor, "b t c h w"], num_frames: int | None = None
    ) -> Float[Tensor, "b t_video 3 h_video w_video"]:
        """The video of whole-clip latents; without `num_frames` every latent frame gives temporal_factor frames."""
        if num_frames is None:
            num_frames = self.coding.num_frames(latents.shape[1])
        if self.num_latent_frames(num_frames) != latents.shape[1]:
            needed = self.num_latent_frames(num_frames)
            raise ValueError(f"{num_frames} frames need {needed} latent frames, got {latents.shape[1]}")
        chunks = self.coding.chunks(num_frames)
        parts = latents.split([math.ceil(n / self.temporal_factor) for n in chunks], dim=1)
        return torch.cat([self.decoder(part, Tape(()))[:, -n:] for part, n in zip(parts, chunks, strict=True)], dim=1)

    def reconstruct(self, video: Float[Tensor, "b t_video 3 h_video w_video"]) -> Tensor:
        """What is left of a whole clip: the mean of its latents, decoded; of the clip's shape."""
        return self.decode(self.encode(video).mean, video.shape[1])

    def start_encoding(self) -> EncoderStream:
        return EncoderStream(past=(), waiting=None)

    def encode_next(
        self, stream: EncoderStream, frames: Float[Tensor, "b t_video 3 h_video w_video"]
    ) -> tuple[EncoderStream, Posterior | None]:
        """Takes any number of frames and gives the latent frames that became complete, None if none did.

        Fed a clip in any pieces, it gives what `encode` gives with `chunk_frames=None`.
        """
        self._check_size(frames)
        if stream.waiting is not None:
            frames = torch.cat([stream.waiting, frames], dim=1)
        num_ready = frames.shape[1] - frames.shape[1] % self.temporal_factor
        ready, waiting = frames[:, :num_ready], frames[:, num_ready:]
        if num_ready == 0:
            return EncoderStream(stream.past, waiting), None
        tape = Tape(stream.past)
        posterior = self._posterior(self.encoder(ready, tape))
        return EncoderStream(tuple(tape.recorded), waiting if waiting.shape[1] else None), posterior

    def with_decoder(self, decoder: Decoder) -> VideoVAE:
        """The same autoencoder with another decoder for its latents. Raises ValueError where sizes differ."""
        theirs, ours = ((one.factor, one.latent_channels) for one in (decoder, self.decoder))
        if theirs != ours:
            raise ValueError(
                f"the small decoder grows latents of {theirs[1]} channels by {theirs[0]} (time, height, width), the "
                f"vae's own those of {ours[1]} by {ours[0]}; choose stages of small_decoder with the same product"
            )
        other = copy.copy(self)
        other._modules = {**self._modules, "decoder": decoder}
        return other

    def start_decoding(self) -> DecoderStream:
        return DecoderStream(past=())

    def decode_next(
        self, stream: DecoderStream, latents: Float[Tensor, "b t c h w"]
    ) -> tuple[DecoderStream, Float[Tensor, "b t_video 3 h_video w_video"]]:
        """Each latent frame gives temporal_factor video frames; equal to `decode` with `chunk_frames=None`."""
        tape = Tape(stream.past)
        video = self.decoder(latents, tape)
        return DecoderStream(tuple(tape.recorded)), video

    def _posterior(self, moments: Tensor) -> Posterior:
        mean, log_variance = moments.chunk(2, dim=2)
        return Posterior(mean, log_variance.clamp(*self.log_variance_range))

    def _check_size(self, video: Tensor) -> None:
        height, width = video.shape[-2:]
        if height % self.spatial_factor or width % self.spatial_factor:
            raise ValueError(
                f"height and width must be multiples of {self.spatial_factor}, got {height}x{width}; resize the video"
            )


def _stages(stages: Sequence[Stage | Mapping[str, Any]], num_groups: int) -> list[Stage]:
    levels = [stage if isinstance(stage, Stage) else Stage(**stage) for stage in stages]
    if not levels:
        raise ValueError("an autoencoder needs at least one stage")
    for level in levels:
        if level.channels % num_groups:
            raise ValueError(f"channels must be a multiple of num_groups = {num_groups}, got {level.channels}")
    return levels


def _product(stages: Sequence[Stage]) -> tuple[int, int, int]:
    """How much all stages together shrink time, height and width."""
    time, height, width = (math.prod(stage.factor[axis] for stage in stages) for axis in range(3))
    return time, height, width


def fold(frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "bt c h w"]:
    return frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def unfold(frames: Float[Tensor, "bt c h w"], num_frames: int) -> Float[Tensor, "b t c h w"]:
    return frames.unflatten(0, (-1, num_frames))


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)


def _blocks(count: int, stage: Stage, num_groups: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(stage.channels, stage.temporal_kernel, num_groups) for _ in range(count))
