"""One training step: losses by name, and the gradients of all parameters for a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
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


class Step:
    """Forward and backward pass of any network, by autograd, on any device.

    half : multiply in bf16 under autocast; parameters, gradients and loss stay in fp32
    """

    def __init__(self, network: nn.Module, loss: Loss, half: bool) -> None:
        self.network, self.loss = network, loss
        self.parameters = list(network.parameters())
        self.autocast = torch.autocast(self.parameters[0].device.type, torch.bfloat16) if half else None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs and the gradient of the mean loss for each parameter.

        Parameters
        ----------
        images : (n, channels, height, width), normalised
        labels : (n,)

        Returns
        -------
        Outputs (n, classes), detached; gradients in the order, shapes and memory formats of the network's parameters.
        """
        if self.autocast is None:
            outputs = self.network(images)
        else:
            with self.autocast:
                outputs = self.network(images).float()
        self.loss(outputs, labels).backward()
        gradients = []
        for parameter in self.parameters:
            assert parameter.grad is not None
            gradients.append(parameter.grad)  # unlike torch.autograd.grad's, it lies in memory as its parameter does
            parameter.grad = None
        return outputs.detach(), gradients


def bf16_is_faster(network: nn.Module, device: torch.device) -> bool:
    """Return whether the device trains this network faster in bf16 than in fp32.

    True on GPUs that multiply in bf16 (taken as given, not measured), and on CPUs with AVX512-BF16 for networks with
    convolutions: 1.2 times as fast at batch 20. For linear layers alone the casts of autocast cost more than bf16 saves, and CPUs
    without such instructions emulate them, 2 to 11 times slower (docs/adr/0004-training-step.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
    return convolves and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
