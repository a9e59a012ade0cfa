"""How well the VAE keeps real video of worlds that no training has seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Film, Pane, Row
from gamegen_x.evaluation.commands import UNLISTED
from gamegen_x.evaluation.judge_training import balanced_accuracy
from gamegen_x.evaluation.progress import Progress
from gamegen_x.evaluation.recordings import as_pixels
from gamegen_x.evaluation.subject import Subject

Clips = UInt8[Tensor, "n t 3 h w"]


class Reconstruction:
    """Encodes and decodes whole clips, from their first frame on.

    `vae_psnr_db`: for every block of video frames 10 log10(4 / mean squared error) with pixels in [-1, 1]; the mean of
    that over all blocks of all clips and views. `vae_ssim`: the mean structural similarity of all frames.
    """

    def __init__(
        self, *, num_clips: int, num_frames: int, batch_size: int, num_films: int, seconds_between_lines: float
    ) -> None:
        self.num_clips = num_clips
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.num_films = num_films
        self.seconds_between_lines = seconds_between_lines

    def ask(self, subject: Subject) -> Answer:
        size = subject.generation.block_frames
        real, commands = self._real(subject)
        made = self._made(subject, real)
        by_block = psnr_db(_blocks(real, size), _blocks(made, size))
        repeated = psnr_db(_blocks(real[:, size:], size), _blocks(real[:, :-size], size))
        ssim = float(structural_similarity(real.flatten(0, 1), made.flatten(0, 1), self.batch_size).mean())
        said = subject.judges.commands_in(made[:, None], subject.commands, first_block=1)[:, 0]
        is_listed = commands[:, 1:] != UNLISTED
        keys_kept = balanced_accuracy(said[is_listed], commands[:, 1:][is_listed])
        figures = {
            "vae_psnr_db": float(by_block.mean()),
            "vae_psnr_worst_tenth_db": float(by_block.quantile(0.1)),
            "vae_psnr_of_repeating_blocks_db": float(repeated.mean()),
            "vae_ssim": ssim,
            "ceiling_accuracy_reconstructed": keys_kept,
            "vae_num_clips": len(real),
        }
        rows = [
            Row("PSNR", figures["vae_psnr_db"], chance=figures["vae_psnr_of_repeating_blocks_db"], unit="dB"),
            Row("PSNR, worse in one block of ten", figures["vae_psnr_worst_tenth_db"], unit="dB"),
            Row("SSIM", ssim, ceiling=1.0, unit=""),
            Row("keys read back", keys_kept, subject.judges.ceilings["commands"], subject.commands.chance),
        ]
        explanation = (
            f"{len(real)} clips of {real.shape[1]} frames from worlds that no training has seen, encoded and "
            f"decoded whole. PSNR is 10 log10(4 / MSE) with pixels in [-1, 1], for every block of {size} frames, then "
            "the mean; beside it as 'chance': showing the block before instead."
        )
        films = [
            Film(f"clip {number}", [Pane("real", real[number]), Pane("reconstructed", made[number])])
            for number in range(min(self.num_films, len(real)))
        ]
        return Answer("Reconstruction: what does the VAE keep?", explanation, figures, rows, films=films)

    def _real(self, subject: Subject) -> tuple[Clips, Int[Tensor, "n b"]]:
        """Single views, as long as the shortest allows, and the command of each of their blocks."""
        recordings = subject.recordings.val
        unit, size = subject.vae.unit_frames, subject.generation.block_frames
        longest = min([self.num_frames, *(recording.num_frames for recording in recordings)])
        num_frames = longest - longest % max(unit, size)
        views = [(recording, view) for recording in recordings for view in range(len(recording.video))]
        every = max(1, len(views) // self.num_clips)
        chosen = views[::every][: self.num_clips]
        video = torch.stack([recording.video[view, :num_frames] for recording, view in chosen])
        actions = torch.stack([recording.actions[view, :num_frames] for recording, view in chosen])
        numbers = rearrange(subject.commands.numbers_of(actions), "n (b f) -> n b f", f=size)
        is_held = (numbers == numbers[..., :1]).all(-1)
        return video, torch.where(is_held, numbers[..., 0], UNLISTED)

    def _made(self, subject: Subject, real: Clips) -> Clips:
        progress = Progress("encoding and decoding", len(real), self.seconds_between_lines)
        parts: list[Tensor] = []
        for part in real.split(self.batch_size):
            parts.append(subject.reconstructed(part))
            progress(sum(len(made) for made in parts))
        return torch.cat(parts)


def psnr_db(real: UInt8[Tensor, "n ..."], made: UInt8[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Peak signal to noise: 10 log10(4 / mean squared error) with pixels in [-1, 1], at most that of one grey level."""
    error = reduce((as_pixels(real) - as_pixels(made)).square(), "n ... -> n", "mean")
    return 10 * torch.log10(4 / error.clamp(min=1 / 127.5**2))


def structural_similarity(
    real: UInt8[Tensor, "n 3 h w"], made: UInt8[Tensor, "n 3 h w"], batch_size: int
) -> Float[Tensor, " n"]:
    """SSIM (Wang et al. 2004): Gaussian window of 11x11 pixels, deviation 1.5; mean over colours and places."""
    pairs = zip(real.split(batch_size), made.split(batch_size), strict=True)
    return torch.cat([_ssim(one.float() / 255, other.float() / 255) for one, other in pairs])


def _ssim(x: Float[Tensor, "n 3 h w"], y: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    places = torch.arange(11) - 5.0
    line = torch.exp(-places.square() / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] * line).expand(3, 1, 11, 11)

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=3)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x.square()
    variance_y = local_mean(y * y) - mean_y.square()
    covariance = local_mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + 0.01**2) / (mean_x.square() + mean_y.square() + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)
    return (likeness * structure).mean((1, 2, 3))


def _blocks(clips: Clips, size: int) -> UInt8[Tensor, "m f 3 h w"]:
    return rearrange(clips, "n (b f) c h w -> (n b) f c h w", f=size)
