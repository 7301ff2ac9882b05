"""What the events of a ledger hold, as the fold parses it, once. Fields that ledgers of earlier versions lack have defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from pipeline import epochs
from pipeline.config import Data, Model, Train, parse

Record = TypeVar("Record")


def parsed(kind: type[Record], content: Mapping[str, Any], **changes: Any) -> Record:
    """Return a record with the content of an event, and ``changes`` to it; what this version does not know is left out."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in content.items() if name in known} | changes)


@dataclass(frozen=True)
class Epoch(epochs.Epoch):
    """time : when the ledger got it, in milliseconds since 1970"""

    time: int = 0


@dataclass(frozen=True)
class RunConfig:
    """The configuration of one training, each section parsed when it is first looked at.

    tree : sections model and train, of a planned training also data, complete, as they were recorded: digests are of these, so
        that what a later version adds changes none. Of an impossible combination train may not parse
    """

    tree: dict[str, Any]

    @cached_property
    def model(self) -> Model:
        return parse({"model": self.tree["model"]}).model

    @cached_property
    def train(self) -> Train:
        return parse(self.tree).train

    @cached_property
    def data(self) -> Data | None:
        return parse({"data": self.tree["data"]}).data if "data" in self.tree else None


@dataclass(frozen=True)
class Dataset:
    """The images of a study, as :class:`pipeline.data.dataset.DatasetInfo` describes them.

    counts : images per class, by split name
    """

    name: str = ""
    classes: Sequence[str] = ()
    shape: Sequence[int] = ()
    fingerprint: str = ""
    split_seed: int | str = "–"
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def images(self) -> dict[str, int]:
        """Images of each split."""
        return {split: sum(counts) for split, counts in self.counts.items()}


@dataclass(frozen=True)
class Lineage:
    """What a study was made from.

    data : folder of the arrays; command : that began it
    """

    dataset: Dataset = field(default_factory=Dataset)
    data: str = ""
    git_commit: str | None = None
    git_dirty: bool | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Lineage:
        return parsed(cls, content, dataset=parsed(Dataset, content.get("dataset") or {}))

    @property
    def dirty(self) -> str:
        """A note for pages."""
        return "with changes that were not committed" if self.git_dirty else ""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What trainings on several seeds came to.

    mean, low, high, std, n : of the values that there are, with 95 % t interval; None where n < 2 (mean: n < 1)
    prediction : where one more training, on another seed, lies in 95 % of cases; None where n < 2
    """

    n: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    prediction: Sequence[float] | None = None


@dataclass(frozen=True)
class Difference:
    """A paired difference with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Finalist(Spread):
    """What the trainings of one finalist came to. Values are those of the objective that decides.

    trial, group, parameters : of the configuration
    seeds, values : by index of the seed; None where the training failed, ``failures`` of them
    search_value : mean over the search's complete trials of this configuration; of one that asha left at a rung, as it stood
    optimism : by how much the search's value is better than the mean; positive: it promised too much; None without a
        complete trial
    difference : this one minus the leader, over the seeds that both have; None of the leader
    p_value : of the paired t test; p_holm : corrected for all finalists that may win
    ties : may win, and chance explains what separates it from the leader (the leader itself ties)
    """

    trial: int
    group: str = ""
    parameters: int = 0
    seeds: Sequence[int] = ()
    values: Sequence[float | None] = ()
    failures: int = 0
    search_value: float = math.nan
    optimism: float | None = None
    difference: Difference | None = None
    p_value: float | None = None
    p_holm: float | None = None
    ties: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Finalist:
        difference = content.get("difference")
        return parsed(cls, content, difference=difference and Difference(**difference))

    def excluded(self, fewest: int) -> bool:
        """Whether it cannot win: more of its trainings failed than of another (``fewest``), or fewer than two are left."""
        return self.failures > fewest or self.n < 2


@dataclass(frozen=True, kw_only=True)
class Winner:
    """Who won the confirmation.

    run : key of its first training; leader, ties : numbers of trials
    finalists : those that may win first, by mean
    summary : in one line
    """

    trial: int
    group: str
    run: str = ""
    leader: int = -1
    ties: Sequence[int] = ()
    objective: str = "accuracy"
    finalists: Sequence[Finalist] = ()
    mean_optimism: float | None = None
    summary: str = ""
    time: int = field(default=0, compare=False)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Winner:
        return parsed(cls, content, finalists=[Finalist.of(item) for item in content.get("finalists", ())])

    @property
    def own(self) -> Finalist | None:
        """The winner among the finalists."""
        return next((item for item in self.finalists if item.trial == self.trial), None)

    def out(self, item: Finalist) -> bool:
        """Whether a finalist could not win."""
        return self.own is not None and item.excluded(self.own.failures)


@dataclass(frozen=True)
class Share:
    """A share of images with its 95 % Wilson interval."""

    successes: int
    n: int
    value: float = 0.0
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, kw_only=True)
class WinnerTest(Spread):
    """What the winner's trainings score on the test images.

    runs : their keys; accuracies : theirs; first : of the first one
    openings : of the test set, this one included
    """

    trial: int
    group: str
    runs: Sequence[str]
    first: Share
    accuracies: Sequence[float] = ()
    images: int = 0
    openings: int = 1
    summary: str = ""
    time: int = field(default=0, compare=False)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> WinnerTest:
        return parsed(cls, content, first=parsed(Share, content["first"]))


@dataclass(frozen=True, kw_only=True)
class RunTest:
    """What a reproduction's training scores on the test images.

    log_loss : nats per image; confusion : rows true, columns predicted
    first_accuracy, initial_accuracy : after the first epoch, and before it
    """

    accuracy: float
    successes: int = 0
    n: int = 0
    log_loss: float | None = None
    f1_weighted: float | None = None
    recall_weighted: float | None = None
    f1_macro: float | None = None
    confusion: Sequence[Sequence[int]] = ()
    first_accuracy: float | None = None
    initial_accuracy: float | None = None
    time: int = 0


def content_of(record: Any) -> dict[str, Any]:
    """Return a record as an event, and a JSON file, holds it."""
    return {name: value for name, value in asdict(record).items() if name != "time"}
