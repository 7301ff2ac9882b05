"""Optimisers by name; each updates all parameters of a network at once.

The update of a small network is mostly the overhead per tensor. Adam therefore calls PyTorch's fused kernel once for all
tensors; the others have no such kernel and update one vector of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.config import Train


class Optimizer(Protocol):
    """Changes the parameters of one network, in place."""

    def step(self, gradients: list[Tensor], lr: float) -> None:
        """Update once; ``gradients`` float32, in the order, shapes and memory formats of the network's parameters."""

    def state(self) -> dict[str, Tensor]:
        """Return the state that :meth:`load` takes."""

    def load(self, state: Mapping[str, Tensor]) -> None: ...


def make_optimizer(network: nn.Module, train: Train) -> Optimizer:
    """Return the optimiser of ``train``, with PyTorch's defaults for the remaining options.

    It may move the values of the parameters in memory; create views of them afterwards.
    """
    match train.optimizer:
        case "adam":
            return FusedAdam(network, torch._fused_adam_, train.weight_decay)
        case "adamw":
            return FusedAdam(network, torch._fused_adamw_, train.weight_decay)
        case "sgd":
            options = {"momentum": train.momentum, "nesterov": train.nesterov}
            return VectorOptimizer(network, torch.optim.SGD, weight_decay=train.weight_decay, **options)
        case "rmsprop":
            return VectorOptimizer(network, torch.optim.RMSprop, weight_decay=train.weight_decay, momentum=train.momentum)
        case "nadam":
            return VectorOptimizer(network, torch.optim.NAdam, weight_decay=train.weight_decay)


class FusedAdam:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) as one call of the kernel behind ``torch.optim``."""

    def __init__(self, network: nn.Module, kernel: Callable[..., None], weight_decay: float) -> None:
        self.kernel, self.weight_decay = kernel, weight_decay
        self.parameters = [parameter.detach() for parameter in network.parameters()]
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = torch.zeros((), device=self.parameters[0].device)

    def step(self, gradients: list[Tensor], lr: float) -> None:
        self.steps.add_(1)
        self.kernel(
            self.parameters,
            gradients,
            self.means,
            self.squares,
            [],
            [self.steps] * len(self.parameters),
            lr=lr,
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        named = {"mean": self.means, "square": self.squares}
        tensors = {f"{name}{index}": value for name, values in named.items() for index, value in enumerate(values)}
        return {"steps": self.steps, **tensors}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(state[name])


class VectorOptimizer:
    """An optimiser of ``torch.optim`` over one vector of all parameters; being elementwise, it computes the same updates."""

    def __init__(self, network: nn.Module, kind: type[torch.optim.Optimizer], **options: Any) -> None:
        self.vector, self.gradients = flatten_parameters(network)
        self.optimizer = kind([self.vector], **options)

    def step(self, gradients: list[Tensor], lr: float) -> None:
        torch._foreach_copy_(self.gradients, gradients)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"].get(0, {})
        return {name: value for name, value in state.items() if value is not None}  # plain SGD keeps a None

    def load(self, state: Mapping[str, Tensor]) -> None:
        if state:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": {0: dict(state)}, "param_groups": groups})


def flatten_parameters(network: nn.Module) -> tuple[nn.Parameter, list[Tensor]]:
    """Move all parameters of ``network`` into one vector, in order; they become views of it with their shapes and formats.

    Returns
    -------
    The vector, float32 of shape (number of parameters,), and views of its gradient, one for each parameter.
    """
    parameters = list(network.parameters())
    vector = nn.Parameter(parameters[0].new_empty(sum(parameter.numel() for parameter in parameters)))
    vector.grad = vector.new_zeros(vector.shape)
    views, offset = [], 0
    for parameter in parameters:
        end = offset + parameter.numel()
        values, gradient = (
            whole[offset:end].as_strided(parameter.shape, parameter.stride()) for whole in (vector.data, vector.grad)
        )
        values.copy_(parameter.data)
        parameter.data = values
        views.append(gradient)
        offset = end
    return vector, views
