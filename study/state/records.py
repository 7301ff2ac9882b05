"""What the events of a ledger hold, as the fold parses it, once. Fields that ledgers of earlier versions lack have defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from pipeline import epochs

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
