"""An import hook that lets the CUDA-linked torchvision wheel load beside a CPU-only torch.

PyPI's torchvision registers its operators from a library that needs CUDA. Without that library the
first `import torchvision` fails with "operator torchvision::nms does not exist", and with it lightning,
torchmetrics, timm and open_clip. The hook acts on torchvision's first import only: it tries the real
library, and where that cannot load it declares the two operators whose absence is fatal. They stay
unavailable, as do torchvision's image codecs; nothing here uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class TorchvisionCpuFinder(MetaPathFinder):
    """Prepares torch for torchvision's import, then lets the ordinary finders do their work."""

    def __init__(self) -> None:
        self.has_prepared = False
        self.declared: list[Any] = []  # a torch library lives as long as someone holds it

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 (the protocol)
        target: ModuleType | None = None,  # noqa: ARG002 (the protocol)
    ) -> ModuleSpec | None:
        if fullname == "torchvision" and not self.has_prepared:
            self.has_prepared = True
            self.prepare()
        return None

    def prepare(self) -> None:
        import torch

        spec = PathFinder.find_spec("torchvision")
        if spec is None or spec.origin is None or torch.version.cuda or torch.version.hip:
            return
        for library in Path(spec.origin).parent.glob("_C*.so"):
            try:
                torch.ops.load_library(str(library))
                return
            except OSError:
                continue  # linked against CUDA libraries that are not here
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            fragment.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        self.declared.append(fragment)


def install() -> None:
    """Adds the finder once, however often it is called."""
    if not any(isinstance(finder, TorchvisionCpuFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionCpuFinder())
