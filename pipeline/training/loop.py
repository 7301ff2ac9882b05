"""The training loop: epochs over a data set on the device, resumable after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import tensors
from pipeline.config import ConfigError, Model, Train
from pipeline.data.dataset import DeviceSplit, SearchData
from pipeline.epochs import BINS, Epoch, Outcome, kept, measured
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier
from pipeline.models.plan import images_at_once, plan
from pipeline.training.augment import augment
from pipeline.training.optim import make_optimizer
from pipeline.training.schedule import lr_at
from pipeline.training.step import Step, bf16_is_faster, make_loss

EXPLODED = 100  # times the loss of guessing: no training recovers from this
Progress = Callable[[int, int], None]  # images done and in all, this epoch
Tensors = dict[str, Tensor]


class Training:
    """One training of one network: call :meth:`run_epoch` until :attr:`ended`.

    All random numbers of an epoch come from the seed and the epoch's number, so that a training resumed from a checkpoint has the
    same history, bit for bit, as an uninterrupted one.
    """

    def __init__(
        self, model: Model, train: Train, data: SearchData, device: torch.device, costs: Sequence[Sequence[float]] | None = None
    ) -> None:
        """Prepare a training.

        costs : ``evaluate.costs``; None: 1 for every error

        Raises
        ------
        ArchitectureError, ConfigError
            The network, the shift or the costs do not fit the images.
        """
        self.config, self.device = train, device
        self.train, self.validation = DeviceSplit.of(data.train, device), DeviceSplit.of(data.validation, device)
        size, shift = min(data.info.shape[1:]), train.augment.shift
        if shift >= size:
            raise ConfigError(f"train.augment.shift: must be less than the {size} pixels of an image, got {shift}")
        n_classes = len(data.info.classes)
        if costs is not None and {len(costs), *map(len, costs)} != {n_classes}:
            raise ConfigError(f"evaluate.costs: must be {n_classes} rows of {n_classes} costs, one for each class, got {costs}")
        self.costs = 1 - np.eye(n_classes) if costs is None else np.array(costs, float)
        self.validated_at_once = images_at_once(plan(model, data.info.shape, n_classes))
        network = build(model, data.info.shape, n_classes, train.seed)
        self.classifier = Classifier(Card.of(model, data.info), network).to(device)
        self.optimizer = make_optimizer(network, train)
        self.loss = make_loss(train)
        self.step = Step(network, self.loss, half=train.precision == "bf16" and bf16_is_faster(network, device))
        self.history: list[Epoch] = []
        self.diverged: str | None = None  # the reason
        self.best = self.first = self._weights()  # of the best epoch so far, and of epoch 1

    @property
    def epoch_images(self) -> int:
        """Training images per epoch."""
        return min(self.config.epoch_images or len(self.train), len(self.train))

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, counted from 1; 0 before the first epoch."""
        return [0, *(epoch.epoch for epoch in kept(self.history, "best"))][-1]

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights :meth:`finish` keeps; 0, the initial weights, if no epoch was completed."""
        return self.best_epoch if self.config.keep == "best" or self.diverged else len(self.history)

    @property
    def stopped_early(self) -> bool:
        patience = self.config.early_stopping
        return patience is not None and len(self.history) - self.best_epoch >= patience

    @property
    def ended(self) -> bool:
        return len(self.history) >= self.config.epochs or self.stopped_early or self.diverged is not None

    def run_epoch(self, progress: Progress = lambda done, total: None) -> Epoch | None:
        """Train for one epoch and validate; return None if the loss diverged: the epoch then does not count."""
        start, number = time.perf_counter(), len(self.history) + 1
        with self._random_numbers_of(number) as generator, _denormals_as_zero():
            train_loss, train_accuracy, lr = self._train_epoch(number, generator, progress)
        outcome = self._validate()
        self.diverged = self._divergence(number, train_loss, outcome.loss, lr)
        if self.diverged:
            return None
        seconds = time.perf_counter() - start
        record = Epoch(number, train_loss, train_accuracy, lr=lr, seconds=seconds, **measured(outcome))
        self.history.append(record)
        if number == 1:
            self.first = self._weights()
        if self.best_epoch == number:
            self.best = self._weights()
        return record

    def kept_weights(self) -> Tensors:
        """Return the weights selected by ``train.keep`` up to this epoch; after divergence the best."""
        if not self.history:
            return self.first
        return self.best if self.kept_epoch == self.best_epoch else self._weights()

    def finish(self) -> Classifier:
        """Return the trained classifier with :meth:`kept_weights`, on the CPU."""
        self.classifier.network.load_state_dict(self.kept_weights())
        return self.classifier.cpu().eval()

    def _train_epoch(self, number: int, generator: torch.Generator, progress: Progress) -> tuple[float, float, float]:
        """Train one epoch; return its mean loss and accuracy, and the learning rate of its last step."""
        config = self.config
        order = self._order(number, generator)
        batches = [batch for batch in order.split(config.batch_size) if len(batch) > 1 or config.batch_size == 1]
        seen = sum(map(len, batches))  # without a last batch of one image, for which batch norm has no variance
        labels = self.train.labels[order[:seen]]
        outputs = torch.empty(seen, len(self.classifier.classes), device=self.device)
        losses = [epoch.validation_loss for epoch in self.history]
        done, first_step, reported = 0, (number - 1) * len(batches), time.perf_counter()
        self.classifier.train()
        for index, batch in enumerate(batches):
            images, end = self.train.images.index_select(0, batch), done + len(batch)
            if config.augment.shift or config.augment.rotation:
                images = augment(images, config.augment, generator)
            outputs[done:end], gradients = self.step(self.classifier.normalise(images), labels[done:end])
            lr = lr_at(first_step + index, config.lr, config.schedule, len(batches), config.epochs, losses)
            self.optimizer.step(gradients, lr)
            done = end
            if time.perf_counter() - reported > 0.2:
                reported = time.perf_counter()
                progress(done, seen)
        return self.loss(outputs, labels).item(), _accuracy(outputs, labels), lr

    def _order(self, number: int, generator: torch.Generator) -> torch.Tensor:
        """Return the indices of an epoch's images; epochs shorter than the data consume one permutation after another."""
        n, size = len(self.train), self.epoch_images
        if size == n:
            return torch.randperm(n, generator=generator, device=self.device)
        first, end = (number - 1) * size, number * size
        passes = range(first // n, (end - 1) // n + 1)
        several = torch.cat([self._permutation(index) for index in passes])
        return several[first - passes[0] * n : end - passes[0] * n]

    def _permutation(self, index: int) -> torch.Tensor:
        """Return the permutation of all images for one pass over them."""
        seed = int(np.random.SeedSequence([self.config.seed, index, 1]).generate_state(1, np.uint64)[0])
        return torch.randperm(len(self.train), generator=torch.Generator(self.device).manual_seed(seed), device=self.device)

    def _divergence(self, number: int, train_loss: float, validation_loss: float, lr: float) -> str | None:
        """Return why the epoch diverged, or None."""
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            return f"the loss was no longer finite in epoch {number}, at lr {lr:g}"
        n_classes = len(self.classifier.classes)
        guess = torch.full((1, n_classes), -math.log(n_classes))  # the same probability for every class
        limit = EXPLODED * self.loss(guess, torch.zeros(1, dtype=torch.int64)).item()
        if train_loss > limit:
            return (
                f"the training loss rose to {train_loss:.3g} in epoch {number}, {EXPLODED} times that of guessing, at lr {lr:g}"
            )
        return None

    def _validate(self) -> Outcome:
        """Return what the network makes of the validation images."""
        self.classifier.eval()
        labels, n_classes = self.validation.labels, len(self.classifier.classes)
        with torch.no_grad():
            outputs = torch.cat(
                [self.classifier.logits(images) for images in self.validation.images.split(self.validated_at_once)]
            )
            confidence = outputs.softmax(1).amax(1).double()
            predictions = outputs.argmax(1)
            bins = (confidence * BINS).ceil_().sub_(1).clamp_(0, BINS - 1).nan_to_num_().long()
            gaps = torch.bincount(bins, (predictions == labels).double() - confidence, minlength=BINS).abs()
            confusion = torch.bincount(labels * n_classes + predictions, minlength=n_classes**2).reshape(n_classes, -1)
        return Outcome(self.loss(outputs, labels).item(), confusion.cpu().numpy(), gaps.cpu().numpy(), self.costs)

    @contextmanager
    def _random_numbers_of(self, epoch: int) -> Iterator[torch.Generator]:
        """Yield a generator for order and augmentation; seed the global one, which dropout uses, for one epoch."""
        own, shared = np.random.SeedSequence([self.config.seed, epoch]).generate_state(2, np.uint64)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(shared))
            yield torch.Generator(self.device).manual_seed(int(own))

    def _weights(self) -> Tensors:
        return {name: value.detach().cpu().clone() for name, value in self.classifier.network.state_dict().items()}

    def save(self, path: Path, note: Any = None) -> None:
        """Write a checkpoint with plain data of the caller, atomically."""
        tensors.write_tensors(path, *self._state(note))

    def restore(self, path: Path) -> Any:
        """Resume from a file of :meth:`save`; return the caller's data."""
        return self.load(path.read_bytes())

    def dump(self, note: Any = None) -> bytes:
        """Return the bytes that :meth:`save` writes."""
        return tensors.pack(*self._state(note))

    def load(self, content: bytes) -> Any:
        """Resume from the bytes of :meth:`dump` or :meth:`save`; return the caller's data.

        Raises DamagedError if the content has changed since it was written; the training is unchanged.
        """
        groups: dict[str, Tensors] = {"now": {}, "best": {}, "first": {}, "optimizer": {}}
        state, metadata = tensors.unpack(content)
        for name, value in state.items():
            group, _, key = name.partition("/")
            groups[group][key] = value
        self.classifier.network.load_state_dict(groups["now"])
        self.best, self.first = groups["best"], groups["first"]
        self.history = [Epoch(**epoch) for epoch in metadata["history"]]
        self.optimizer.load(groups["optimizer"])
        return metadata["note"]

    def _state(self, note: Any) -> tuple[Tensors, Any]:
        groups = {"now": self._weights(), "best": self.best, "first": self.first, "optimizer": self.optimizer.state()}
        state = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        return state, {"history": [asdict(epoch) for epoch in self.history], "note": note}


@contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Treat numbers below 1e-38 as 0. Inactive units leave them in Adam's moments, and CPUs are slow at them: an MLP trains 10 %
    faster without them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    return (outputs.argmax(1) == labels).double().mean().item()
