"""Plan a network: the shape, parameters and multiply-adds of every layer, before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import ConvBlock, DenseBlock, Model, Pool

# Monotone, so max-pooling before them gives the same values as after them, on fewer pixels.
MONOTONE = frozenset({"relu", "leaky_relu", "elu", "tanh", "sigmoid"})


class ArchitectureError(ValueError):
    """An architecture that does not fit the image shape; the message names the layer, its size and its input."""


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    name : unique in the network, e.g. ``conv2``
    kind : conv, norm2d, norm1d, an activation, max, avg, dropout2d, dropout, average, flatten, linear, log_softmax
    shape : of its output for one image, (channels, height, width) or (units,)
    parameters : trainable values
    multiply_adds : for one image; convolutions and linear layers only, as is usual
    args : arguments of its constructor
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int = 0
    multiply_adds: int = 0
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All layers of a network, first to last."""

    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)


def images_at_once(planned: Plan, most: int = 1000) -> int:
    """Return the batch size for inference: at most ``most``, at least 1, the largest layer output at most 64 MB if possible."""
    largest = max(math.prod(layer.shape) for layer in planned.layers)
    return max(1, min(most, 64_000_000 // (4 * largest)))


def plan(model: Model, shape: tuple[int, int, int], n_classes: int) -> Plan:
    """Return the layers of an architecture, with shapes for one image.

    Raises ArchitectureError if a kernel does not fit its input, or ``same`` padding has an even kernel.

    shape : of one image, (channels, height, width)
    """
    layers: list[Layer] = []
    current: tuple[int, ...] = shape
    for number, conv in enumerate(model.conv, 1):
        layers += _conv_block(number, conv, model, current)
        current = layers[-1].shape
    if model.conv and model.flatten == "average":
        current = (current[0],)
        layers.append(Layer("average", "average", current))
    else:
        current = (math.prod(current),)
        layers.append(Layer("flatten", "flatten", current))
    for number, dense in enumerate(model.dense, 1):
        layers += _dense_block(number, dense, model, current[0])
        current = layers[-1].shape
    layers.append(_linear("head", current[0], n_classes))
    if model.output != "logits":
        layers.append(Layer("output", model.output, (n_classes,)))
    return Plan(tuple(layers))


def _conv_block(number: int, block: ConvBlock, model: Model, shape: tuple[int, ...]) -> list[Layer]:
    """Return conv → norm → activation → pool → dropout, with max-pooling before a monotone activation."""
    batch_norm = model.batch_norm if block.batch_norm is None else block.batch_norm
    activation = block.activation or model.activation
    dropout = model.dropout if block.dropout is None else block.dropout
    layers = [_conv(f"conv{number}", block, shape)]
    if batch_norm:
        layers.append(Layer(f"norm{number}", "norm2d", layers[-1].shape, 2 * block.out, args={"num_features": block.out}))
    if block.pool and block.pool.kind == "max" and activation in MONOTONE:
        layers.append(_pool(f"pool{number}", block.pool, layers[-1].shape))
        layers.append(Layer(f"act{number}", activation, layers[-1].shape))
    else:
        if activation != "none":
            layers.append(Layer(f"act{number}", activation, layers[-1].shape))
        if block.pool:
            layers.append(_pool(f"pool{number}", block.pool, layers[-1].shape))
    if dropout:
        layers.append(Layer(f"drop{number}", "dropout2d", layers[-1].shape, args={"p": dropout}))
    return layers


def _dense_block(number: int, block: DenseBlock, model: Model, inputs: int) -> list[Layer]:
    """Return linear → norm → activation → dropout."""
    batch_norm = model.batch_norm if block.batch_norm is None else block.batch_norm
    activation = block.activation or model.activation
    dropout = model.dropout if block.dropout is None else block.dropout
    layers = [_linear(f"dense{number}", inputs, block.out)]
    shape = layers[-1].shape
    if batch_norm:
        layers.append(Layer(f"dense_norm{number}", "norm1d", shape, 2 * block.out, args={"num_features": block.out}))
    if activation != "none":
        layers.append(Layer(f"dense_act{number}", activation, shape))
    if dropout:
        layers.append(Layer(f"dense_drop{number}", "dropout", shape, args={"p": dropout}))
    return layers


def _conv(name: str, block: ConvBlock, shape: tuple[int, ...]) -> Layer:
    channels, height, width = shape
    padding = block.padding
    if padding == "same":
        if block.kernel % 2 == 0:
            raise ArchitectureError(f"{name}: padding same needs an odd kernel, got {block.kernel}; give the padding as a number")
        padding = block.kernel // 2
    sizes = tuple((size + 2 * padding - block.kernel) // block.stride + 1 for size in (height, width))
    if min(height, width) + 2 * padding < block.kernel:
        padded = f" padded by {padding}" if padding else ""
        raise ArchitectureError(f"{name}: {block.kernel}×{block.kernel} kernel does not fit a {height}×{width} input{padded}")
    weights = block.out * channels * block.kernel**2
    return Layer(
        name,
        "conv",
        (block.out, *sizes),
        parameters=weights + block.out,
        multiply_adds=weights * math.prod(sizes),
        args={
            "in_channels": channels,
            "out_channels": block.out,
            "kernel_size": block.kernel,
            "stride": block.stride,
            "padding": padding,
        },
    )


def _pool(name: str, pool: Pool, shape: tuple[int, ...]) -> Layer:
    channels, height, width = shape
    stride = pool.stride or pool.kernel
    if min(height, width) < pool.kernel:
        raise ArchitectureError(f"{name}: {pool.kernel}×{pool.kernel} pooling does not fit a {height}×{width} input")
    sizes = tuple((size - pool.kernel) // stride + 1 for size in (height, width))
    return Layer(name, pool.kind, (channels, *sizes), args={"kernel_size": pool.kernel, "stride": stride})


def _linear(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(
        name,
        "linear",
        (outputs,),
        parameters=inputs * outputs + outputs,
        multiply_adds=inputs * outputs,
        args={"in_features": inputs, "out_features": outputs},
    )
