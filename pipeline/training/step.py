"""One training step: from a batch to the gradients of all parameters."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pipeline.config import Train
from pipeline.models.build import Network
from pipeline.training.layers import make_layer
from pipeline.training.loss import LossGradient, make_loss_gradient

Gradients = list[Tensor]


class Step(Protocol):
    """Normalised images (n, channels, height, width) and labels (n,) → outputs (n, classes), and the gradient of the mean loss
    with respect to each of the network's parameters, in their order."""

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]: ...


def make_step(network: Network, device: torch.device, train: Train) -> Step:
    """The fastest step on the device."""
    kind = WrittenStep if device.type == "cpu" else AutogradStep
    return kind(network, make_loss_gradient(train), half=train.precision == "bf16")


class AutogradStep:
    """Forward and backward by autograd, in bf16 by autocast; the oracle of :class:`WrittenStep`."""

    def __init__(self, network: Network, loss_gradient: LossGradient, half: bool) -> None:
        self.network, self.loss_gradient = network, loss_gradient
        self.parameters = list(network.parameters())
        self.autocast = torch.autocast(self.parameters[0].device.type, torch.bfloat16, enabled=half)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        with self.autocast:
            outputs = self.network(images)
        outputs = outputs.float()
        values = outputs.detach()
        outputs.backward(self.loss_gradient(values, labels))
        gradients = []
        for parameter in self.parameters:
            assert parameter.grad is not None
            gradients.append(parameter.grad)  # autograd gives it the memory format of its parameter
            parameter.grad = None
        return values, gradients


class WrittenStep:
    """Forward and backward layer by layer, without autograd; see :mod:`pipeline.training.layers`."""

    def __init__(self, network: Network, loss_gradient: LossGradient, half: bool) -> None:
        self.loss_gradient = loss_gradient
        self.layers = [make_layer(module, half) for module in network]
        self.first = next(index for index, module in enumerate(network) if any(True for _ in module.parameters()))

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        with torch.no_grad():
            x, kept = images, []
            for layer in self.layers:
                x, needed = layer.forward(x)
                kept.append(needed)
            grad = self.loss_gradient(x, labels)
            gradients: list[Gradients] = []
            for index in range(len(self.layers) - 1, self.first - 1, -1):
                grad, own = self.layers[index].backward(grad, kept[index], index == self.first)
                gradients.append(own)
        return x, [gradient for own in reversed(gradients) for gradient in own]
