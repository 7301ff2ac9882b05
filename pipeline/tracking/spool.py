"""The durable queue between a run and its writer: records on disk, in order, one JSON object a line.

A run appends; its writer process sends. What a killed process leaves behind stays here until it is sent.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import line_log
from pipeline.artifacts import locked, read_sealed, write_sealed
from pipeline.line_log import LineLog, Record

WAITING = Path(".cache/tracking")  # below the project's root


@dataclass(frozen=True)
class State:
    """How far the writer has come.

    problem : why nothing is sent at present
    warnings : what could not be recorded and was left out, one line each
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
        """The queue of the run with this key."""
        if not re.fullmatch(r"\w[\w.-]{0,63}", key):
            raise ValueError(f"key must be 1 to 64 letters, digits, _ . or -, got {key!r}")
        return cls(root / WAITING / key)

    @property
    def records(self) -> Path:
        return self.folder / "records.jsonl"

    def append_to(self) -> AbstractContextManager[LineLog]:
        """The log of records, ours alone; a line that a killed process left half-written is dropped.

        Raises
        ------
        BlockingIOError
            Another process appends to it.
        """
        return line_log.opened(self.records)

    def read(self, offset: int = 0) -> tuple[list[Record], int]:
        """The whole records from a byte offset on, and the offset where the next ones will begin."""
        return line_log.read(self.records, offset)

    def opening(self, resumed: bool = False) -> str | None:
        """The id of the last opening here, if its run never ended, or is to be gone on with though it did."""
        opening = None
        for record in self.read()[0]:
            if record["kind"] == "open":
                opening = record.get("id")
            elif record["kind"] == "finish" and not resumed:
                opening = None
        return opening

    def keep(self, path: Path) -> str:
        """Copy a file or folder as it is now, so that it can be sent later; where, relative to the queue."""
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
        """Be the only process that sends these records; yields False, at once, where another is and we do not wait.

        False as well where the queue is gone, sent and deleted by another.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / "writer", wait=wait))
                alone = self.records.exists()
            except (BlockingIOError, FileNotFoundError):
                alone = False
            yield alone

    def write_state(self, state: State) -> None:
        write_sealed(self.folder / "state.json", asdict(state))

    def read_state(self) -> State:
        path = self.folder / "state.json"
        if not path.exists():
            return State()
        tree = read_sealed(path)
        return State(**{**tree, "warnings": tuple(tree["warnings"])})

    def in_use(self) -> bool:
        """Whether a living run appends to it."""
        return line_log.held(self.records)

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def waiting(root: Path) -> list[Spool]:
    """The queues under the project's root, oldest first."""
    changed: dict[Path, float] = {}
    for path in (root / WAITING).glob("*/records.jsonl"):
        with suppress(FileNotFoundError):  # its owner has just deleted it
            changed[path.parent] = path.stat().st_mtime
    return [Spool(folder) for folder in sorted(changed, key=changed.__getitem__)]
