"""The durable queue between a run and its writer: records on disk, in order, one JSON object per line.

A run appends; its writer process sends. The records of a killed process stay here until they are sent.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import line_log
from pipeline.artifacts import read_sealed, sole, write_sealed
from pipeline.line_log import LineLog, Record

WAITING = Path(".cache/tracking")  # below the project's root


@dataclass(frozen=True)
class State:
    """The progress of the writer.

    problem : why nothing can be sent now
    warnings : refused records that were left out, one line each
    """

    run_id: str | None = None
    experiment_id: str | None = None
    model_uri: str | None = None
    problem: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spool:
    """The folder of one run's queue."""

    folder: Path

    @classmethod
    def of(cls, root: Path, key: str) -> Spool:
        """Return the queue of the run with this key. Raises ValueError for an invalid key."""
        if not re.fullmatch(r"\w[\w.-]{0,63}", key):
            raise ValueError(f"key must be 1 to 64 letters, digits, _ . or -, got {key!r}")
        return cls(root / WAITING / key)

    @property
    def records(self) -> Path:
        return self.folder / "records.jsonl"

    def append_to(self) -> AbstractContextManager[LineLog]:
        """Return the log of records, held by this process; a line that a killed process left half-written is dropped.

        Raises BlockingIOError if another process holds the log.
        """
        return line_log.opened(self.records)

    def read(self, offset: int = 0) -> tuple[list[Record], int]:
        """Return the whole records from a byte offset on, and the offset of the next record."""
        return line_log.read(self.records, offset)

    def opening(self, resumed: bool = False) -> str | None:
        """Return the id of the last opening if its run never ended or is ``resumed``, else None."""
        opening = None
        for record in self.read()[0]:
            if record["kind"] == "open":
                opening = record.get("id")
            elif record["kind"] == "finish" and not resumed:
                opening = None
        return opening

    def keep(self, path: Path) -> str:
        """Copy a file or folder into the queue, to be sent later; return the copy's path relative to the queue."""
        number = len(list(self.folder.glob("copies/*")))
        copy = self.folder / "copies" / str(number) / path.name
        copy.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, copy)
        else:
            shutil.copyfile(path, copy)
        return str(copy.relative_to(self.folder))

    @contextmanager
    def sole_writer(self, wait: bool) -> Iterator[bool]:
        """Yield whether this process is the only one that sends these records; ``wait`` for the present sender.

        Yields False, too, if another process has sent and deleted the queue.
        """
        with sole(self.folder / "writer", wait) as held:
            yield held and self.records.exists()

    def write_state(self, state: State) -> None:
        write_sealed(self.folder / "state.json", asdict(state))

    def read_state(self) -> State:
        path = self.folder / "state.json"
        if not path.exists():
            return State()
        tree = read_sealed(path)
        return State(**{**tree, "warnings": tuple(tree["warnings"])})

    def in_use(self) -> bool:
        """Return whether a running process appends to the queue."""
        return line_log.held(self.records)

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def waiting(root: Path) -> list[Spool]:
    """Return the queues under the project's root, oldest first."""
    changed: dict[Path, float] = {}
    for path in (root / WAITING).glob("*/records.jsonl"):
        with suppress(FileNotFoundError):  # just deleted by its owner
            changed[path.parent] = path.stat().st_mtime
    return [Spool(folder) for folder in sorted(changed, key=changed.__getitem__)]
