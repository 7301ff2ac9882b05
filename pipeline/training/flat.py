"""All parameters of a network as one vector.

Every optimiser here works element by element, so that one update of one vector equals many updates of many tensors,
without the per-tensor overhead that dominates small networks. It also makes a checkpoint of the optimiser a few vectors.
"""

from __future__ import annotations

from torch import nn


def flatten_parameters(network: nn.Module) -> nn.Parameter:
    """Move all parameters of ``network`` into one vector, in their order, and give it a gradient of zeros.

    The network's parameters and their gradients become views of the vector and of its gradient; shapes and memory
    formats stay as they were.

    Returns
    -------
    The vector, float32 of shape (number of parameters,), for the optimiser.
    """
    parameters = list(network.parameters())
    vector = nn.Parameter(parameters[0].new_empty(sum(parameter.numel() for parameter in parameters)))
    vector.grad = vector.new_zeros(vector.shape)
    offset = 0
    for parameter in parameters:
        for name, whole in (("data", vector.data), ("grad", vector.grad)):
            view = whole[offset : offset + parameter.numel()].as_strided(parameter.shape, parameter.stride())
            if name == "data":
                view.copy_(parameter.data)
            setattr(parameter, name, view)
        offset += parameter.numel()
    return vector
