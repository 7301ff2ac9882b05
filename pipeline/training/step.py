"""One training step: from a batch to the gradients of all parameters.

:class:`AutogradStep` works for every network and is the oracle; :class:`DenseStep` is the fast path for dense networks
on a CPU, where most of a step would otherwise be overhead and a slow matrix product. A test holds them together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import Train
from pipeline.models.build import Network
from pipeline.training.optim import LossGradient, make_loss_gradient


class Step(Protocol):
    """Normalised images (n, channels, height, width) and labels (n,) → outputs (n, classes); gradients go to ``.grad``."""

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor: ...


def make_step(network: Network, vector: nn.Parameter, train: Train) -> Step:
    """The fastest step that the network, its device and the precision allow."""
    loss_gradient = make_loss_gradient(train)
    if train.precision == "bf16":
        return HalfStep(network, loss_gradient)
    if vector.device.type == "cpu" and all(isinstance(layer, DENSE_LAYERS) for layer in network):
        return DenseStep(network, loss_gradient)
    return AutogradStep(network, vector, loss_gradient)


class AutogradStep:
    """Forward and backward by autograd."""

    def __init__(self, network: Network, vector: nn.Parameter, loss_gradient: LossGradient) -> None:
        self.network, self.vector, self.loss_gradient = network, vector, loss_gradient

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        _gradient(self.vector).zero_()
        outputs = self.network(images)
        values = outputs.detach()
        outputs.backward(self.loss_gradient(values, labels))
        return values


class HalfStep:
    """Mixed precision: convolutions and linear layers in bf16 on copies of their weights, all else and the weights in fp32.

    The copies are made once a step, where autocast makes them tensor by tensor inside autograd (Micikevicius et al. 2018,
    "Mixed Precision Training", section 3.1; bf16 needs no loss scaling).
    """

    def __init__(self, network: Network, loss_gradient: LossGradient) -> None:
        self.loss_gradient = loss_gradient
        cast = {name: copy.deepcopy(layer).bfloat16() for name, layer in network.named_children() if _is_cast(layer)}
        self.layers = [(cast.get(name, layer), name in cast) for name, layer in network.named_children()]
        self.copies = [weight for layer in cast.values() for weight in layer.parameters()]
        owned = [weight for name in cast for weight in network.get_submodule(name).parameters()]
        self.weights = [weight.detach() for weight in owned]
        self.gradients = [_gradient(weight) for weight in owned]
        norms = [layer for name, layer in network.named_children() if name not in cast]
        self.norm_gradients = [_gradient(weight) for layer in norms for weight in layer.parameters()]

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            torch._foreach_copy_(self.copies, self.weights)  # type: ignore[arg-type]
        for gradient in self.norm_gradients:
            gradient.zero_()
        outputs = images
        for layer, is_half in self.layers:  # pooling is fp32 too: on a CPU PyTorch fills bf16 tensors an element at a time
            outputs = layer(outputs.bfloat16()).float() if is_half else layer(outputs)
        values = outputs.detach()
        outputs.backward(self.loss_gradient(values, labels))
        torch._foreach_copy_(self.gradients, [_gradient(weight) for weight in self.copies])
        for weight in self.copies:
            weight.grad = None
        return values


def _is_cast(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad


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
        return cls(layer.weight.detach(), layer.bias.detach(), _gradient(layer.weight), _gradient(layer.bias))


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
