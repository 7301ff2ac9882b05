"""One training step: from a batch to the gradients of all parameters.

:class:`AutogradStep` works for every network and is the oracle; :class:`DenseStep` is the fast path for dense networks
on a CPU, where most of a step would otherwise be overhead and a slow matrix product. A test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import Train
from pipeline.models.build import Network
from pipeline.training.optim import Loss, LossGradient, make_loss, make_loss_gradient


class Step(Protocol):
    """Normalised images (n, channels, height, width) and labels (n,) → outputs (n, classes); gradients go to ``.grad``."""

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor: ...


def make_step(network: Network, vector: nn.Parameter, train: Train) -> Step:
    """The fastest step that the network, its device and the precision allow."""
    if vector.device.type == "cpu" and train.precision == "fp32" and all(isinstance(layer, DENSE_LAYERS) for layer in network):
        return DenseStep(network, make_loss_gradient(train))
    return AutogradStep(network, vector, make_loss(train), train.precision)


class AutogradStep:
    """Forward and backward by autograd, in fp32 or bf16 mixed precision."""

    def __init__(self, network: Network, vector: nn.Parameter, loss: Loss, precision: str) -> None:
        self.network, self.vector, self.loss = network, vector, loss
        self.autocast = torch.autocast(vector.device.type, torch.bfloat16, enabled=precision == "bf16")

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        assert self.vector.grad is not None
        self.vector.grad.zero_()
        with self.autocast:
            outputs = self.network(images)
        outputs = outputs.float()
        self.loss(outputs, labels).backward()
        return outputs.detach()


# Each activation's derivative is the kernel that autograd itself calls: (gradient, input, output) → gradient.
_BACKWARD: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda grad, x, y: torch.ops.aten.threshold_backward(grad, y, 0),
    nn.LeakyReLU: lambda grad, x, y: torch.ops.aten.leaky_relu_backward(grad, x, 0.01, False),
    nn.ELU: lambda grad, x, y: torch.ops.aten.elu_backward(grad, 1.0, 1.0, 1.0, False, x),
    nn.GELU: lambda grad, x, y: torch.ops.aten.gelu_backward(grad, x),
    nn.SiLU: lambda grad, x, y: torch.ops.aten.silu_backward(grad, x),
    nn.Tanh: lambda grad, x, y: torch.ops.aten.tanh_backward(grad, y),
    nn.Sigmoid: lambda grad, x, y: torch.ops.aten.sigmoid_backward(grad, y),
    nn.LogSoftmax: lambda grad, x, y: torch.ops.aten._log_softmax_backward_data(grad, y, 1, torch.float32),
}
DENSE_LAYERS = (nn.Flatten, nn.Linear, nn.Dropout, *_BACKWARD)


@dataclass(frozen=True)
class _Linear:
    """A linear layer's tensors, without autograd and the module's look-ups, which would cost as much as the arithmetic."""

    weight: Tensor  # (outputs, inputs)
    bias: Tensor  # (outputs,)
    weight_grad: Tensor
    bias_grad: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> _Linear:
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        return cls(layer.weight.detach(), layer.bias.detach(), layer.weight.grad, layer.bias.grad)


class DenseStep:
    """Forward and backward of flatten, linear, activation and dropout layers, written out."""

    def __init__(self, network: Network, loss_gradient: LossGradient) -> None:
        layers = [layer for layer in network if not isinstance(layer, nn.Flatten)]
        self.layers = [_Linear.of(layer) if isinstance(layer, nn.Linear) else layer for layer in layers]
        self.loss_gradient = loss_gradient

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        values = [images.flatten(1)]  # the input of each layer, and the outputs
        masks: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            x = values[-1]
            if isinstance(layer, _Linear):
                values.append(product(x, layer.weight, layer.bias))
            elif isinstance(layer, nn.Dropout):
                keep = 1 - layer.p
                masks[index] = torch.empty_like(x).bernoulli_(keep).div_(keep)
                values.append(x * masks[index])
            else:
                values.append(layer(x))
        grad = self.loss_gradient(values[-1], labels)
        for index in reversed(range(len(self.layers))):
            layer, x, y = self.layers[index], values[index], values[index + 1]
            if isinstance(layer, _Linear):
                _weight_gradient(grad, x, layer.weight_grad)
                torch.sum(grad, 0, out=layer.bias_grad)
                if index:
                    grad = grad @ layer.weight
            elif isinstance(layer, nn.Dropout):
                grad = grad * masks[index]
            else:
                grad = _BACKWARD[type(layer)](grad, x, y)
        return values[-1]


# oneDNN's product, which PyTorch reserves for compiled graphs, takes half the time of MKL's on CPUs that are not
# Intel's; below this many weights its set-up costs more than it saves.
_LARGE = 2**15
_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``: (n, inputs), (outputs, inputs), (outputs,) → (n, outputs)."""
    if _onednn is not None and weight.numel() >= _LARGE:
        return _onednn(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _weight_gradient(grad: Tensor, x: Tensor, out: Tensor) -> None:
    """``grad.T @ x`` into ``out``: (n, outputs), (n, inputs) → (outputs, inputs)."""
    if _onednn is not None and out.numel() >= _LARGE:
        out.copy_(_onednn(grad.t(), x.t(), None, "none", [], ""))
    else:
        torch.mm(grad.t(), x, out=out)
