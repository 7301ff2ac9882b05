"""Optimisers and losses by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import Train

Loss = Callable[[Tensor, Tensor], Tensor]
LossGradient = Callable[[Tensor, Tensor], Tensor]


def make_optimizer(vector: nn.Parameter, train: Train) -> torch.optim.Optimizer:
    """The optimiser over all parameters as one vector (see :func:`pipeline.training.flat.flatten_parameters`)."""
    match train.optimizer:
        case "sgd":
            return torch.optim.SGD(
                [vector], train.lr, momentum=train.momentum, nesterov=train.nesterov, weight_decay=train.weight_decay
            )
        case "adam":
            return torch.optim.Adam([vector], train.lr, weight_decay=train.weight_decay, fused=True)
        case "adamw":
            return torch.optim.AdamW([vector], train.lr, weight_decay=train.weight_decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop([vector], train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
        case "nadam":
            return torch.optim.NAdam([vector], train.lr, weight_decay=train.weight_decay)


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
        return lambda outputs, labels: _cross_entropy_gradient(outputs, labels, train.label_smoothing)
    loss = make_loss(train)

    def by_autograd(outputs: Tensor, labels: Tensor) -> Tensor:
        outputs = outputs.detach().requires_grad_()
        return torch.autograd.grad(loss(outputs, labels), outputs)[0]

    return by_autograd


def _cross_entropy_gradient(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """(probabilities - target) / n, the target being ``1 - smoothing`` on the label and ``smoothing / classes`` everywhere."""
    n, classes = outputs.shape
    grad = torch.softmax(outputs, 1).sub_(smoothing / classes)
    return grad.scatter_add_(1, labels[:, None], outputs.new_full((n, 1), smoothing - 1)).div_(n)
