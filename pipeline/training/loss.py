"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from pipeline.config import Train

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(train: Train) -> Loss:
    """Return the mean loss over a batch as a function of outputs (n, classes) and labels (n,)."""
    match train.loss:
        case "cross_entropy":
            return lambda outputs, labels: F.cross_entropy(outputs, labels, label_smoothing=train.label_smoothing)
        case "nll":
            return F.nll_loss
        case "mse":
            return lambda outputs, labels: F.mse_loss(outputs, F.one_hot(labels, outputs.shape[1]).to(outputs.dtype))
        case "multi_margin":
            return F.multi_margin_loss
