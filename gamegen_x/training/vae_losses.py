"""What a reconstruction is blamed for: pixels, detail, structure; and what a critic says."""

from __future__ import annotations

import pickle
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call


def detail_weight(video: Float[Tensor, "b t c h w"], strength: float) -> Float[Tensor, "b t 1 h w"] | None:
    """1 on even ground, up to 1 + `strength` at edges: small things are few pixels, and would be learned last."""
    if not strength:
        return None
    grey = video.detach().mean(dim=2, keepdim=True)
    padded = F.pad(grey, (1, 1, 1, 1, 0, 0), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).abs()
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).abs()
    return 1 + strength * (across + down).clamp(max=1)


def pixel_losses(
    made: Float[Tensor, "b t c h w"], real: Float[Tensor, "b t c h w"], weight: Float[Tensor, "b t 1 h w"] | None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean absolute and mean squared error, weighted."""
    error = made.float() - real
    if weight is None:
        return error.abs().mean(), error.square().mean()
    scaled = weight / weight.mean()
    return (error.abs() * scaled).mean(), (error.square() * scaled).mean()


def decibels(squared_error: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """PSNR of videos in [-1, 1], whose peak is 2."""
    return -10 * (squared_error / 4).clamp(min=1e-10).log10()


def psnr_db(made: Float[Tensor, "b t c h w"], real: Float[Tensor, "b t c h w"]) -> Float[Tensor, ""]:
    """PSNR of what was made, cut to [-1, 1], over all of a batch."""
    return decibels((made.float().clamp(-1, 1) - real).square().mean())


class PerceptualDistance(nn.Module):
    """How different two pictures look, 0 for equal ones."""

    @abstractmethod
    def forward(self, made: Float[Tensor, "n 3 h w"], real: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        raise NotImplementedError


class GradientDistance(PerceptualDistance):
    """Compares the slopes of both pictures at several scales. Needs no weights."""

    def __init__(self, num_scales: int) -> None:
        super().__init__()
        self.num_scales = num_scales

    def forward(self, made: Float[Tensor, "n 3 h w"], real: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        difference = made - real
        total = difference.new_zeros(())
        for _ in range(self.num_scales):
            total = total + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
            difference = F.avg_pool2d(difference, 2)
        return total / self.num_scales


class VGGDistance(PerceptualDistance):
    """Distance between features of VGG-16, normalised by channel (Zhang et al. 2018, without learned weights).

    `weights` is a local state dict file of torchvision's vgg16; None takes random features, which tests do.
    """

    mean: Tensor
    deviation: Tensor
    _MEAN = (0.485, 0.456, 0.406)
    _DEVIATION = (0.229, 0.224, 0.225)

    def __init__(self, weights: str | None, layers: Sequence[int]) -> None:
        super().__init__()
        from torchvision.models import vgg16  # type: ignore[import-untyped]

        with torch.device("meta"):  # nine tenths of it are layers that nobody asks here
            features = vgg16(weights=None).features[: max(layers) + 1]
        self.features = features.to_empty(device="cpu")
        if weights is None:
            for layer in self.features:
                if isinstance(layer, nn.Conv2d):
                    layer.reset_parameters()
        else:
            self.features.load_state_dict(_read_features(Path(weights), self.features.state_dict().keys()))
        self.features.eval().requires_grad_(False)
        self.layers = frozenset(layers)
        self.register_buffer("mean", torch.tensor(self._MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(self._DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, made: Float[Tensor, "n 3 h w"], real: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        pair = ((torch.cat([made, real]) + 1) / 2 - self.mean) / self.deviation
        total = made.new_zeros((), dtype=torch.float32)
        for index, layer in enumerate(self.features):
            pair = layer(pair)
            if index in self.layers:
                first, second = F.normalize(pair.float(), dim=1).chunk(2)
                total = total + (first - second).square().sum(dim=1).mean()
        return total


def _read_features(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The layers `names` of a VGG-16 of torchvision. Raises FileNotFoundError or ValueError."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return {name: stored[f"features.{name}"] for name in names}
    except (pickle.UnpicklingError, KeyError, TypeError, RuntimeError) as mistake:
        said = str(mistake).splitlines()[0]
        raise ValueError(f"{path} is not torchvision's vgg16-397923af.pth: {said}") from mistake


@dataclass(frozen=True)
class Verdict:
    """What the autoencoder pays for being recognised, and what the critic pays for being fooled."""

    made: Float[Tensor, ""]
    critic: Float[Tensor, ""]


def verdict(critic: nn.Module, made: Float[Tensor, "b t 3 h w"], real: Float[Tensor, "b t 3 h w"]) -> Verdict:
    """Hinge losses (Lim and Ye 2017) that can be minimised in one backward pass: each reaches its own network only."""
    fixed: Mapping[str, Tensor] = {name: value.detach() for name, value in critic.named_parameters()}
    fooling = -functional_call(critic, dict(fixed), (made,)).float().mean()
    scores = critic(torch.cat([real, made.detach()])).float()
    on_real, on_made = scores.chunk(2)
    return Verdict(fooling, F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean())


def frames_of(video: Float[Tensor, "b t c h w"]) -> Float[Tensor, "bt c h w"]:
    return rearrange(video, "b t c h w -> (b t) c h w")
