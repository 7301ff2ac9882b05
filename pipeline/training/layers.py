"""Every layer that a network can have, forward and backward written out, for the training step on a CPU.

With small networks half of a step by autograd is not arithmetic but the recording and replaying of a graph that is
always the same, and modules looking up their own parameters. The gradients are the kernels that autograd itself calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models import build as models

aten: Any = torch.ops.aten

# oneDNN's product, which PyTorch reserves for compiled graphs, takes half the time of MKL's on CPUs that are not
# Intel's; below this many weights its set-up costs more than it saves, and so does bf16.
LARGE = 2**15
TINY = 512  # below this many weights of a convolution the casts of bf16 cost more than it saves
_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


class Layer(Protocol):
    """One layer in training mode, outside autograd."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """The output, and whatever :meth:`backward` needs."""

    def backward(self, grad: Tensor, kept: Any, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        """The gradient of the input, from that of the output, and those of the layer's parameters.

        Nobody needs the former of the first layer that has parameters (``is_first``): it may be anything.
        """


def make_layer(module: nn.Module, half: bool) -> Layer:
    """The written-out form of a module; with ``half`` convolutions and large linear layers multiply in bf16."""
    match module:
        case nn.Linear():
            return HalfLinear(module) if half and module.weight.numel() >= LARGE else Linear(module)
        case nn.Conv2d():
            return HalfConv(module) if half and module.weight.numel() >= TINY else Conv(module)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return BatchNorm(module)
        case nn.MaxPool2d():
            return MaxPool(module)
        case nn.AvgPool2d():
            return AvgPool(module)
        case nn.Dropout() | nn.Dropout2d():
            return Dropout(module)
        case nn.Flatten():
            return Flatten()
        case models.Average():
            return Average()
        case _:
            return Activation(module)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``: (n, inputs), (outputs, inputs), (outputs,) → (n, outputs), fast for large weights."""
    if _onednn is None:
        return F.linear(x, weight, bias)
    return _onednn(x, weight, bias, "none", [], "")


class Linear:
    def __init__(self, module: nn.Linear) -> None:
        self.weight, self.bias = module.weight.detach(), module.bias.detach()  # (outputs, inputs), (outputs,)
        self.is_large = self.weight.numel() >= LARGE

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (product if self.is_large else F.linear)(x, self.weight, self.bias), x

    def backward(self, grad: Tensor, x: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        weight_grad = product(grad.t(), x.t()) if self.is_large else torch.mm(grad.t(), x)
        return grad if is_first else grad @ self.weight, [weight_grad, grad.sum(0)]


class HalfLinear(Linear):
    """Multiplies copies in bf16; all that comes out is fp32 (Micikevicius et al. 2018, "Mixed Precision Training", 3.1)."""

    def __init__(self, module: nn.Linear) -> None:
        super().__init__(module)
        self.half = self.weight.bfloat16()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.half.copy_(self.weight)
        x = x.bfloat16()
        return product(x, self.half).float().add_(self.bias), x

    def backward(self, grad: Tensor, x: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        half = grad.bfloat16()
        input_grad = grad if is_first else torch.mm(half, self.half).float()
        return input_grad, [torch.mm(half.t(), x).float(), grad.sum(0)]


class Conv:
    def __init__(self, module: nn.Conv2d) -> None:
        assert module.bias is not None
        self.weight, self.bias = module.weight.detach(), module.bias.detach()
        self.stride, self.padding = list(module.stride), [int(pixels) for pixels in module.padding]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding), x

    def backward(self, grad: Tensor, x: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        return self._backward(grad, x, self.weight, is_first)

    def _backward(self, grad: Tensor, x: Tensor, weight: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        wanted = [not is_first, True, True]
        input_grad, weight_grad, bias_grad = aten.convolution_backward(
            grad, x, weight, [len(self.bias)], self.stride, self.padding, [1, 1], False, [0, 0], 1, wanted
        )
        return input_grad, [_in_format_of(self.weight, weight_grad), bias_grad]


class HalfConv(Conv):
    """Convolves copies in bf16; all that comes out is fp32, so that pooling is too: PyTorch's is slow in bf16 on a CPU."""

    def __init__(self, module: nn.Conv2d) -> None:
        super().__init__(module)
        self.half, self.half_bias = self.weight.bfloat16(), self.bias.bfloat16()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.half.copy_(self.weight)
        self.half_bias.copy_(self.bias)
        x = x.bfloat16()
        return F.conv2d(x, self.half, self.half_bias, self.stride, self.padding).float(), x

    def backward(self, grad: Tensor, x: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        input_grad, gradients = self._backward(grad.bfloat16(), x, self.half, is_first)
        return input_grad if is_first else input_grad.float(), [gradient.float() for gradient in gradients]


def _in_format_of(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory format of its weight, which fused optimisers take for granted."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight, dtype=gradient.dtype).copy_(gradient)


class BatchNorm:
    def __init__(self, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        self.module = module
        self.weight, self.bias = module.weight.detach(), module.bias.detach()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        module = self.module
        assert module.num_batches_tracked is not None
        module.num_batches_tracked.add_(1)
        y, mean, inverse_deviation = aten.native_batch_norm(
            x, self.weight, self.bias, module.running_mean, module.running_var, True, module.momentum, module.eps
        )
        return y, (x, mean, inverse_deviation)

    def backward(self, grad: Tensor, kept: tuple[Tensor, Tensor, Tensor], is_first: bool) -> tuple[Tensor, list[Tensor]]:
        x, mean, inverse_deviation = kept
        input_grad, weight_grad, bias_grad = aten.native_batch_norm_backward(
            grad, x, self.weight, None, None, mean, inverse_deviation, True, self.module.eps, [True, True, True]
        )
        return input_grad, [weight_grad, bias_grad]


class MaxPool:
    def __init__(self, module: nn.MaxPool2d) -> None:
        self.kernel, self.stride = [module.kernel_size] * 2, [module.stride] * 2

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, indices = aten.max_pool2d_with_indices(x, self.kernel, self.stride)
        return y, (x, indices)

    def backward(self, grad: Tensor, kept: tuple[Tensor, Tensor], is_first: bool) -> tuple[Tensor, list[Tensor]]:
        x, indices = kept
        return aten.max_pool2d_with_indices_backward(grad, x, self.kernel, self.stride, [0, 0], [1, 1], False, indices), []


class AvgPool:
    def __init__(self, module: nn.AvgPool2d) -> None:
        self.kernel, self.stride = [module.kernel_size] * 2, [module.stride] * 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return aten.avg_pool2d(x, self.kernel, self.stride), x

    def backward(self, grad: Tensor, x: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        return aten.avg_pool2d_backward(grad, x, self.kernel, self.stride, [0, 0], False, True, None), []


class Dropout:
    def __init__(self, module: nn.Dropout | nn.Dropout2d) -> None:
        self.keep, self.whole_channels = 1 - module.p, isinstance(module, nn.Dropout2d)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mask = x.new_empty((*x.shape[:2], 1, 1)) if self.whole_channels else torch.empty_like(x)
        mask.bernoulli_(self.keep).div_(self.keep)
        return x * mask, mask

    def backward(self, grad: Tensor, mask: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        return grad * mask, []


class Flatten:
    def forward(self, x: Tensor) -> tuple[Tensor, torch.Size]:
        return x.flatten(1), x.shape

    def backward(self, grad: Tensor, shape: torch.Size, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        return grad.reshape(shape), []


class Average:
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x

    def backward(self, grad: Tensor, x: Tensor, is_first: bool) -> tuple[Tensor, list[Tensor]]:
        share = grad / (x.shape[2] * x.shape[3])
        return torch.empty_like(x).copy_(share[:, :, None, None]), []


# (gradient, input, output) → gradient
_DERIVATIVES: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda grad, x, y: aten.threshold_backward(grad, y, 0),
    nn.LeakyReLU: lambda grad, x, y: aten.leaky_relu_backward(grad, x, 0.01, False),
    nn.ELU: lambda grad, x, y: aten.elu_backward(grad, 1.0, 1.0, 1.0, False, x),
    nn.GELU: lambda grad, x, y: aten.gelu_backward(grad, x),
    nn.SiLU: lambda grad, x, y: aten.silu_backward(grad, x),
    nn.Tanh: lambda grad, x, y: aten.tanh_backward(grad, y),
    nn.Sigmoid: lambda grad, x, y: aten.sigmoid_backward(grad, y),
    nn.LogSoftmax: lambda grad, x, y: aten._log_softmax_backward_data(grad, y, 1, torch.float32),
}


class Activation:
    def __init__(self, module: nn.Module) -> None:
        self.function, self.derivative = module.forward, _DERIVATIVES[type(module)]

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = self.function(x)
        return y, (x, y)

    def backward(self, grad: Tensor, kept: tuple[Tensor, Tensor], is_first: bool) -> tuple[Tensor, list[Tensor]]:
        return self.derivative(grad, *kept), []
