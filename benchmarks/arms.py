"""The training loops that are compared: ours, and the ones that people write.

All train the same network on the same images with Adam, one thread, and keep the running loss and accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pipeline.config import Model, Train
from pipeline.data.dataset import DatasetInfo, SearchData, Split
from pipeline.models.build import build
from pipeline.training.device import use_cpu
from pipeline.training.loop import Training
from pipeline.vision import torchvision

Batches = Iterable[tuple[Tensor, Tensor]]
Arm = Callable[[], float]  # trains for one epoch and returns images per second
MEAN, STD = 0.1307, 0.3081


def images(n: int) -> Split:
    """Random images of MNIST's size: the speed of none of the loops depends on what they show."""
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, n))


def ours(model: Model, train: Train, split: Split) -> Arm:
    """Return an epoch of :class:`pipeline.training.loop.Training`; its validation, which the others lack, has but 20 images.

    As in production, the process keeps freed memory; the other arms of the process profit too, which narrows the ratios.
    """
    use_cpu(train.threads)
    info = DatasetInfo("random", tuple("0123456789"), (1, 28, 28), (MEAN,), (STD,), "", 0, {})
    validation = Split(split.images[:20], split.labels[:20])
    training = Training(model, replace(train, epochs=10**6), SearchData(info, split, validation), torch.device("cpu"))

    def epoch() -> float:
        record = training.run_epoch()
        assert record is not None
        return len(split) / record.seconds

    return epoch


def data_loader(model: Model, train: Train, split: Split) -> Arm:
    """torchvision's MNIST with ToTensor and Normalize, sample by sample, through a DataLoader: the loop of the tutorials."""
    transforms = torchvision.transforms
    dataset = torchvision.datasets.MNIST.__new__(torchvision.datasets.MNIST)  # its own __getitem__, without its files
    dataset.data, dataset.targets = torch.from_numpy(split.images[:, 0]), torch.from_numpy(split.labels)
    dataset.transform, dataset.target_transform = (
        transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]),
        None,
    )
    return _usual(model, train, DataLoader(dataset, train.batch_size, shuffle=True), len(split))


def in_memory(model: Model, train: Train, split: Split) -> Arm:
    """The images normalised beforehand, held as float tensors, through a DataLoader: the naive loop in memory."""
    floats = (torch.from_numpy(split.images) / 255 - MEAN) / STD
    loader = DataLoader(TensorDataset(floats, torch.from_numpy(split.labels)), train.batch_size, shuffle=True)
    return _usual(model, train, loader, len(split))


def resident(model: Model, train: Train, split: Split) -> Arm:
    """The same float tensors, shuffled and sliced by hand: what a careful person writes."""
    floats, labels = (torch.from_numpy(split.images) / 255 - MEAN) / STD, torch.from_numpy(split.labels)

    class Slices:
        def __iter__(self):  # type: ignore[no-untyped-def]
            for batch in torch.randperm(len(split)).split(train.batch_size):
                yield floats[batch], labels[batch]

    return _usual(model, train, Slices(), len(split))


def _usual(model: Model, train: Train, batches: Batches, n: int) -> Arm:
    """The plain loop: activation before pooling as written, default memory format, Adam's defaults, autograd."""
    network = _as_written(build(model, (1, 28, 28), 10, seed=0)).to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), train.lr)

    def epoch() -> float:
        start, total, right = time.perf_counter(), 0.0, 0
        for x, y in batches:
            optimizer.zero_grad()
            outputs = network(x)
            loss = F.cross_entropy(outputs, y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            right += int((outputs.argmax(1) == y).sum().item())
        return n / (time.perf_counter() - start)

    return epoch


def _as_written(network: nn.Sequential) -> nn.Sequential:
    """The layers in the order in which people write them, each pooling behind its activation."""
    layers = list(network)
    for index in reversed(range(len(layers) - 1)):
        if isinstance(layers[index], nn.MaxPool2d):
            layers[index], layers[index + 1] = layers[index + 1], layers[index]
    return nn.Sequential(*layers)
