"""One training step: from a batch to the gradients of all parameters.

:class:`AutogradStep` works for every network and is the oracle; :class:`DenseStep` is the fast path for dense networks
on a CPU, where most of a step would otherwise be overhead and a slow matrix product. A test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.build import Network
from pipeline.training.optim import Loss


class Step(Protocol):
    """Normalised images (n, channels, height, width) and labels (n,) → outputs (n, classes); gradients go to ``.grad``."""

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor: ...


def make_step(network: Network, vector: nn.Parameter, loss: Loss, precision: str) -> Step:
    """The fastest step that the network, its device and the precision allow."""
    if vector.device.type == "cpu" and precision == "fp32" and all(isinstance(layer, DENSE_LAYERS) for layer in network):
        return DenseStep(network, loss)
    return AutogradStep(network, vector, loss, precision)


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


class DenseStep:
    """Forward and backward of flatten, linear, activation and dropout layers, written out."""

    def __init__(self, network: Network, loss: Loss) -> None:
        self.layers = [layer for layer in network if not isinstance(layer, nn.Flatten)]
        self.loss = loss

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            values = [images.flatten(1)]  # the input of each layer, and the outputs
            masks: dict[int, Tensor] = {}
            for index, layer in enumerate(self.layers):
                if isinstance(layer, nn.Linear):
                    values.append(product(values[-1], layer.weight, layer.bias))
                elif isinstance(layer, nn.Dropout):
                    keep = 1 - layer.p
                    masks[index] = torch.empty_like(values[-1]).bernoulli_(keep).div_(keep)
                    values.append(values[-1] * masks[index])
                else:
                    values.append(layer(values[-1]))
        outputs = values[-1].requires_grad_()
        (grad,) = torch.autograd.grad(self.loss(outputs, labels), outputs)
        with torch.no_grad():
            for index in reversed(range(len(self.layers))):
                layer, x, y = self.layers[index], values[index], values[index + 1]
                if isinstance(layer, nn.Linear):
                    assert layer.weight.grad is not None
                    assert layer.bias.grad is not None
                    _weight_gradient(grad, x, layer.weight.grad)
                    torch.sum(grad, 0, out=layer.bias.grad)
                    if index:
                        grad = grad @ layer.weight
                elif isinstance(layer, nn.Dropout):
                    grad = grad * masks[index]
                else:
                    grad = _BACKWARD[type(layer)](grad, x, y)
        return outputs.detach()


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
