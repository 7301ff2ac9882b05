"""What is compared: trainings with their weights, and the images that they were validated on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.config import Data
from pipeline.data.dataset import DatasetInfo
from pipeline.epochs import Epoch
from pipeline.report.table import Estimate
from study.report.facts import estimate
from study.state.records import Dataset, Lineage, RunConfig

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Training:
    """One training whose weights are kept.

    name : NAME/12.s3, or current
    seed : of its initial weights, the order of its images, dropout and augmentation
    config : with section data
    epochs : in order, from epoch 1
    accuracy : of the weights kept, on the validation images, as it was recorded
    folder : of model.json and the weights
    device : cpu, cuda, or the kind of slot that it ran on
    state : COMPLETE, or how far it is otherwise
    page : of its run in MLflow, if it was recorded
    """

    name: str
    seed: int
    config: RunConfig
    epochs: tuple[Epoch, ...]
    accuracy: float
    parameters: int
    multiply_adds: int
    folder: Path
    device: str
    state: str = "COMPLETE"
    page: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds of device time, validation included."""
        return float(sum(epoch.seconds for epoch in self.epochs))

    @cached_property
    def bytes(self) -> int:
        """Size of the file of weights."""
        return (self.folder / WEIGHTS).stat().st_size


@dataclass(frozen=True)
class Images:
    """What a side was trained and validated on.

    classes : names, by label
    fingerprint : of all arrays and of the classes
    validation : number of validation images, >= 1
    section : of the configuration, how they were prepared; folder : where that was
    """

    name: str
    classes: tuple[str, ...]
    fingerprint: str
    validation: int
    section: Data
    folder: Path

    @classmethod
    def of(cls, info: Dataset | DatasetInfo, fingerprint: str, section: Data, folder: Path) -> Images:
        return cls(info.name, tuple(info.classes), fingerprint, sum(info.counts["validation"]), section, folder)


@dataclass(frozen=True)
class Side:
    """One of the things compared: a training, or several of one configuration.

    label : a short name, unlike those of the other sides
    what : what it is, in a few words
    trainings : at least one, in the order of their seeds' numbers
    images : that all of them were trained and validated on
    lost : keys of further trainings of it that have not ended well, or have no weights
    searched : whether its accuracies are those of a search, which chose among many by them
    source : what it was made by
    """

    label: str
    what: str
    trainings: tuple[Training, ...]
    images: Images
    lost: tuple[str, ...] = ()
    searched: bool = False
    source: Lineage = field(default_factory=Lineage)

    @property
    def first(self) -> Training:
        return self.trainings[0]

    @property
    def names(self) -> list[str]:
        return [training.name for training in self.trainings]

    @property
    def seeds(self) -> list[int]:
        return [training.seed for training in self.trainings]

    @property
    def accuracies(self) -> list[float]:
        """On the validation images, by training."""
        return [training.accuracy for training in self.trainings]

    @cached_property
    def accuracy(self) -> Estimate:
        """Validation accuracy: one training's with its Wilson interval, or the mean with its t interval."""
        return estimate(self.accuracies, self.images.validation)

    @property
    def seconds(self) -> float:
        """Seconds of device time, mean over the trainings."""
        return sum(training.seconds for training in self.trainings) / len(self.trainings)

    @property
    def seconds_per_epoch(self) -> float:
        return self.seconds * len(self.trainings) / sum(len(training.epochs) for training in self.trainings)

    def same_images(self, other: Side) -> bool:
        return self.images.fingerprint == other.images.fingerprint


def common_seeds(first: Side, second: Side) -> list[tuple[Training, Training]]:
    """Pair the trainings on each seed that both have, in the first one's order; of several on one seed the first."""
    ours, theirs = ({training.seed: training for training in reversed(side.trainings)} for side in (first, second))
    return [(ours[seed], theirs[seed]) for seed in dict.fromkeys(first.seeds) if seed in theirs]
