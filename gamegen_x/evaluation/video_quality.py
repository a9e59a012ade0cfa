"""Fréchet distances between generated and real video, and between real and real, by features that are named."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.subject import Subject

Clips = UInt8[Tensor, "n t 3 h w"]


class VideoQuality:
    """FVD on windows of two blocks and, where there is an environment judge, FID on frames.

    The extractors are this suite's own judges, so the numbers mean something only beside the distance of real video
    from other real video of as many clips, which is measured with them; never compare them with numbers from elsewhere.
    """

    def __init__(self, *, windows_per_clip: int) -> None:
        self.windows_per_clip = windows_per_clip

    def ask(self, subject: Subject) -> Answer | None:
        if not subject.is_player:
            return None
        play, window = subject.play, 2 * subject.generation.block_frames
        generated = self._windows(
            list(rearrange(play.video[:, :, play.context_frames :], "b p ... -> (b p) ...")), window
        )
        real = self._windows([view for clip in subject.recordings.val for view in clip.video], window)
        other = self._windows([view for clip in subject.recordings.train for view in clip.video], window)
        num_windows = min(len(generated), len(real), len(other))  # distances grow as samples get fewer: compare equals
        windows = {
            name: found[torch.linspace(0, len(found) - 1, num_windows).round().long()]
            for name, found in (("generated", generated), ("real", real), ("other", other))
        }
        judges = subject.judges
        figures: dict[str, object] = {"video_quality_num_windows": num_windows}
        rows: list[Row] = []
        for name, extractor, features in (
            ("fvd", "inverse-dynamics judge", judges.motion_features),
            ("fid", "environment judge", judges.picture_features),
        ):
            if name == "fid" and judges.environment is None:
                continue
            seen = {kind: features(video) for kind, video in windows.items()}
            distance, floor = (
                frechet_distance(seen["generated"], seen["real"]),
                frechet_distance(seen["other"], seen["real"]),
            )
            figures |= {f"{name}_judge": distance, f"{name}_judge_real": floor, f"{name}_extractor": extractor}
            rows.append(Row(f"{name.upper()}, features of the {extractor}", distance, floor, unit=""))
        explanation = (
            f"Fréchet distances over {num_windows} windows of {window} frames; less is better. Ceiling: real video of "
            "other worlds against the same real video, which is what no model can be expected to undercut."
        )
        return Answer("Quality: how far from real video?", explanation, figures, rows)

    def _windows(self, clips: list[Tensor], window: int) -> Clips:
        """Windows at even distances from the beginning to the end of every clip, the clips taking turns."""
        starts = [
            torch.linspace(0, len(clip) - window, self.windows_per_clip).round().long().tolist() for clip in clips
        ]
        return torch.stack(
            [
                clip[clip_starts[turn] : clip_starts[turn] + window]
                for turn in range(self.windows_per_clip)
                for clip, clip_starts in zip(clips, starts, strict=True)
            ]
        )


def frechet_distance(one: Float[Tensor, "n d"], other: Float[Tensor, "m d"]) -> float:
    """Between the Gaussians of two sets of features: |mean - mean|^2 + trace(S + T - 2 (S T)^(1/2))."""
    one, other = one.double(), other.double()
    spread, other_spread = _covariance(one), _covariance(other)
    root = _root(spread)
    between = torch.linalg.eigvalsh(root @ other_spread @ root).clamp(min=0).sqrt().sum()
    shift = (one.mean(0) - other.mean(0)).square().sum()
    return float(shift + spread.trace() + other_spread.trace() - 2 * between)


def _covariance(features: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
