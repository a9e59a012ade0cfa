"""Pictures on their way to a browser: bytes and time of the tier of H.264, beside the tier of JPEG that is as crisp."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import av
import numpy as np
import simplejpeg
from omegaconf import DictConfig

from benchmarks.measuring import Ratio, Rule, run_in_turn, times_faster
from benchmarks.played import played
from benchmarks.rows import Row
from benchmarks.settings import composed
from gamegen_x.config import build
from gamegen_x.games.door import Frame
from gamegen_x.serve.frame_codec import Jpeg, Tier

Blocks = Sequence[Sequence[Frame]]


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    tiers: dict[str, Tier] = {tier.name: build(tier) for tier in composed("serve").tiers}
    ours, peer = tiers[settings.tier], tiers[settings.beside]
    blocks = _seen(settings, rule)
    sent = [[tier.encode(block) for block in blocks] for tier in (ours, peer)]
    seconds = len(blocks) * settings.block / settings.fps
    kilobytes = [sum(len(picture) for block in each for picture in block) / 1000 / seconds for each in sent]
    crispness = [_psnr_db(tier, each, blocks) for tier, each in zip((ours, peer), sent, strict=True)]
    rounds = run_in_turn({tier.name: partial(_encode, tier, blocks) for tier in (ours, peer)}, rule)
    milliseconds = [1000 * rounds.median(tier.name) / len(blocks) for tier in (ours, peer)]
    smaller = Ratio(*[kilobytes[1] / kilobytes[0]] * 3)  # counted, not timed
    share = 10 ** ((crispness[0] - crispness[1]) / 10)
    crisp = f"{crispness[0]:.1f} dB beside {crispness[1]:.1f}, so {1 / share:.2f} times the squared error"
    faster = times_faster(rounds, ours.name, peer.name, rule)
    return [
        Row(
            "pictures", "bytes", "kB/s", kilobytes[0], peer.name, kilobytes[1], smaller, settings.targets.times_smaller
        ),
        Row("pictures", "crispness", "1/error", share, target=settings.targets.crispness, note=crisp),
        Row("pictures", "block_ms", "ms", milliseconds[0], peer.name, milliseconds[1], faster, note=rounds.note()),
    ]


def _seen(settings: DictConfig, rule: Rule) -> Blocks:
    """What the first player of each world sees."""
    blocks = []
    for seed in range(rule.seed, rule.seed + settings.num_worlds):
        game, states = played(settings.num_players, settings.num_blocks * settings.block, seed)
        views = [next(iter(game.views(state).values())) for state in states[1:]]
        blocks += [views[first : first + settings.block] for first in range(0, len(views), settings.block)]
    return blocks


def _encode(tier: Tier, blocks: Blocks) -> None:
    for block in blocks:
        tier.encode(block)


def _psnr_db(tier: Tier, sent: Sequence[Sequence[bytes]], blocks: Blocks) -> float:
    shown = [_read(tier, each) for each in sent]
    errors = [np.square(one.astype(float) - other).mean() for one, other in zip(shown, blocks, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def _read(tier: Tier, pictures: Sequence[bytes]) -> np.ndarray:
    if isinstance(tier, Jpeg):
        return np.stack([simplejpeg.decode_jpeg(picture, colorspace="RGB") for picture in pictures])
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for picture in pictures for frame in decoder.decode(av.Packet(picture))] + decoder.decode(None)
    return np.stack([frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in frames])
