"""Build an ``nn.Module`` from a plan."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import Model
from pipeline.models.plan import plan


class Average(nn.Module):
    """Mean over pixels: (n, channels, height, width) → (n, channels)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class StridedPointwise(nn.Conv2d):
    """A strided 1×1 convolution without padding that drops the skipped pixels first.

    With few input channels oneDNN's own version writes past its memory in the backward pass (uxlfoundation/oneDNN#6035).
    """

    def forward(self, images: Tensor) -> Tensor:
        down, right = self.stride
        return F.conv2d(images[:, :, ::down, ::right], self.weight, self.bias)


def convolution(**args: Any) -> nn.Conv2d:
    """Return a convolution layer; ``args`` as for ``nn.Conv2d``."""
    is_strided_pointwise = args["kernel_size"] == 1 and args["padding"] == 0 and args["stride"] > 1
    return (StridedPointwise if is_strided_pointwise else nn.Conv2d)(**args)


MODULES: dict[str, Callable[..., nn.Module]] = {
    "conv": convolution,
    "norm2d": nn.BatchNorm2d,
    "norm1d": nn.BatchNorm1d,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "max": nn.MaxPool2d,
    "avg": nn.AvgPool2d,
    "dropout2d": nn.Dropout2d,
    "dropout": nn.Dropout,
    "average": Average,
    "flatten": nn.Flatten,
    "linear": nn.Linear,
    "log_softmax": lambda: nn.LogSoftmax(dim=1),
}


class Network(nn.Sequential):
    """The layers of a plan by name: normalised images (n, channels, height, width) → outputs (n, classes)."""

    def features(self, images: Tensor) -> Tensor:
        """Return the input of the last linear layer, (n, d), for images (n, channels, height, width)."""
        for name, layer in self.named_children():
            if name == "head":
                break
            images = layer(images)
        return images


def build(model: Model, shape: tuple[int, int, int], n_classes: int, seed: int) -> Network:
    """Return the network with PyTorch's default initial weights, drawn from ``seed`` alone.

    Convolution weights are channels-last, the fastest layout on CPUs and tensor cores.

    Raises ArchitectureError if the architecture does not fit the shape; see :func:`pipeline.models.plan.plan`.
    """
    layers = plan(model, shape, n_classes).layers
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(OrderedDict((layer.name, MODULES[layer.kind](**layer.args)) for layer in layers))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
