"""Preview: short videos of what the networks can do by now, as MP4 and in the logs."""

# ruff: noqa: ARG002  (a hook takes what Lightning hands over)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from gamegen_x.data.batch import Batch
from gamegen_x.sampling.clip_sampler import ClipSampler, SampleRequest
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.sampling.video_file import to_pixels, write_video
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.training.decoder_task import DecoderTask
from gamegen_x.training.flow_task import FlowTask
from gamegen_x.training.vae_task import VAETask, views


class Preview(L.Callback):
    """Real clips above, reconstructed or generated ones below, from the first validation batch."""

    def __init__(
        self,
        *,
        folder: str,
        every_n_validations: int,
        num_clips: int,
        num_context_frames: int,
        crf: int,
        sampler: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.folder = Path(folder)
        self.every_n_validations = every_n_validations
        self.num_clips = num_clips
        self.num_context_frames = num_context_frames
        self.crf = crf
        self.sampler = SamplerSettings(**sampler)
        self.seed = seed
        self._batch: Batch | None = None

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0:
            self._batch = batch

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Comes while the networks have their average weights."""
        batch, self._batch = self._batch, None
        number = round(trainer.fit_loop.epoch_loop.total_batch_idx / trainer.val_check_interval)
        is_due = trainer.global_step >= trainer.max_steps > 0 or number % self.every_n_validations == 0
        if batch is None or not is_due or not trainer.is_global_zero:
            return
        with torch.inference_mode():
            if isinstance(pl_module, FlowTask):
                real, made = self._generated(pl_module, batch)
            else:
                assert isinstance(pl_module, VAETask | DecoderTask)
                real, made = self._reconstructed(pl_module, batch)
        path = self.folder / f"step-{trainer.global_step:08d}.mp4"
        write_video(path, above_and_below(to_pixels(real), to_pixels(made)), float(batch.fps[0]), self.crf)
        for logger in trainer.loggers:
            _log_video(logger, path, made, trainer.global_step)

    def _reconstructed(self, task: VAETask | DecoderTask, batch: Batch) -> tuple[Tensor, Tensor]:
        real = views(batch)[: self.num_clips]
        with task.autocast():
            made = task.reconstruct(real)
        return real.cpu(), made.float().cpu()

    def _generated(self, task: FlowTask, batch: Batch) -> tuple[Tensor, Tensor]:
        """Goes on from real context frames, with the keys and the instruction of the recording."""
        num_clips = min(self.num_clips, len(batch))
        if batch.video is None:
            assert batch.latents is not None
            latents = rearrange(batch.latents[:num_clips].float(), "b p ... -> (b p) ...")
            video = task.vae.decode(latents / task.latent_scale + task.latent_shift)
            real = rearrange(video, "(b p) ... -> b p ...", b=num_clips)
        else:
            real = batch.video[:num_clips]
        num_players, num_frames, _, height, width = real.shape[1:]
        coding = task.vae.coding
        fitting = [n for n in range(num_frames) if coding.ends_a_latent(n)]  # something is left to generate
        num_context = min((n for n in fitting if n >= self.num_context_frames), default=fitting[-1])
        rows = np.arange(num_frames) if batch.latents is None else coding.rows(num_frames)
        last_rows = np.searchsorted(rows, np.arange(num_frames), side="right") - 1
        space = ActionSpace("preview", tuple(f"key{i}" for i in range(batch.actions.shape[-1])))
        networks = Networks(
            vae=task.vae,
            text_encoder=task.text_encoder,
            model=task.model,
            action_space=space,
            fps=float(batch.fps[0]),
            height=height,
            width=width,
            latent_scale=task.latent_scale,
            latent_shift=task.latent_shift,
            kind="base",
            sampler_settings=self.sampler,
            config={},
        )
        said = zip(batch.instructions[:num_clips], batch.instruction_starts.tolist(), strict=False)
        request = SampleRequest(
            prompts=batch.captions[:num_clips],
            num_frames=num_frames,
            seed=self.seed,
            num_players=num_players,
            actions=batch.actions[:num_clips, :, last_rows],
            context=real[:, :, :num_context] if num_context else None,
            is_player=batch.is_player[:num_clips],
            near=None if batch.near is None else batch.near[:num_clips],
            state=None if batch.state is None or task.model.msdit.embed_state is None else batch.state[:num_clips],
            instructions=[
                [Instruction(text, int(rows[max(0, int(start))]))] if text and start < len(rows) else []
                for text, start in said
            ],
        )
        with task.autocast():
            made = ClipSampler(networks, self.sampler).sample(request)
        return tuple(rearrange(video.float().cpu(), "b p t ... -> (b p) t ...") for video in (real, made))  # type: ignore[return-value]


def above_and_below(
    real: UInt8[Tensor, "n t h w 3"], made: UInt8[Tensor, "n t h w 3"]
) -> UInt8[Tensor, "t h_all w_all 3"]:
    """One video: the clips side by side, real ones above."""
    return rearrange(torch.stack([real, made]), "rows n t h w c -> t (rows h) (n w) c")


def _log_video(logger: Any, path: Path, made: Float[Tensor, "n t 3 h w"], step: int) -> None:
    if isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.log({"preview": wandb.Video(str(path), format="mp4"), "trainer/global_step": step})
    elif isinstance(logger, TensorBoardLogger):
        frame = rearrange(((made[:, -1] + 1) / 2).clamp(0, 1), "n c h w -> c h (n w)")
        logger.experiment.add_image("preview/last_frame", frame, step)
