"""Import torchvision with any build of torch: ``from pipeline.vision import torchvision``.

The published wheel is built against torch with CUDA. With a CPU-only torch its compiled operators cannot be loaded, and its
import fails on the operator ``nms``. Declaring the missing operators is enough: we use only its Python code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_declared: torch.library.Library | None = None  # a Library unregisters its operators when it is collected


def declare_missing_operators() -> bool:
    """Declare torchvision's operators if its compiled ones cannot be loaded; return whether that was necessary."""
    global _declared
    spec = importlib.util.find_spec("torchvision")  # finds it without importing it
    assert spec is not None
    assert spec.origin is not None
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return False
    if _declared is None:
        _declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True


declare_missing_operators()

import torchvision  # noqa: E402

__all__ = ["declare_missing_operators", "torchvision"]
