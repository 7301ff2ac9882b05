"""Losses by name, and their gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import Train

Loss = Callable[[Tensor, Tensor], Tensor]
LossGradient = Callable[[Tensor, Tensor], Tensor]


def make_loss(train: Train) -> Loss:
    """The mean loss over a batch, from outputs (n, classes) and labels (n,)."""
    match train.loss:
        case "cross_entropy":
            return lambda outputs, labels: F.cross_entropy(outputs, labels, label_smoothing=train.label_smoothing)
        case "nll":
            return F.nll_loss
        case "mse":
            return lambda outputs, labels: F.mse_loss(outputs, F.one_hot(labels, outputs.shape[1]).to(outputs.dtype))
        case "multi_margin":
            return F.multi_margin_loss


def make_loss_gradient(train: Train) -> LossGradient:
    """The gradient of :func:`make_loss` with respect to the outputs, (n, classes)."""
    if train.loss == "cross_entropy":
        return CrossEntropyGradient(train.label_smoothing)
    loss = make_loss(train)

    def by_autograd(outputs: Tensor, labels: Tensor) -> Tensor:
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            return torch.autograd.grad(loss(outputs, labels), outputs)[0]

    return by_autograd


class CrossEntropyGradient:
    """(probabilities - target) / n, the target being ``1 - smoothing`` on the label and ``smoothing / classes`` everywhere."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing
        self.on_label = torch.empty(0, 1)  # smoothing - 1 for each image of a batch

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        n, classes = outputs.shape
        if len(self.on_label) != n:
            self.on_label = outputs.new_full((n, 1), self.smoothing - 1)
        grad = torch.softmax(outputs, 1).scatter_add_(1, labels[:, None], self.on_label)
        if self.smoothing:
            grad.sub_(self.smoothing / classes)
        return grad.div_(n)
