"""The durable queue between a run and its writer: records on disk, in order, one JSON object a line.

A run appends; its writer process sends. What a killed process leaves behind stays here until it is sent.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pipeline import artifacts

WAITING = Path(".cache/tracking")  # below the project's root

Record = dict[str, Any]


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

    @contextmanager
    def append_to(self) -> Iterator[IO[bytes]]:
        """The file of records, open at its end and ours alone; a line that a killed process left half-written is dropped.

        Raises
        ------
        BlockingIOError
            Another process appends to it.
        """
        file = self._open()
        with file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            yield file

    def _open(self) -> IO[bytes]:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.records.open("ab+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # deleted between our opening and locking it

    def read(self, offset: int = 0) -> tuple[list[Record], int]:
        """The whole records from a byte offset on, and the offset where the next ones will begin."""
        if not self.records.exists():
            return [], offset
        with self.records.open("rb") as file:
            file.seek(offset)
            lines = file.read()
        end = lines.rfind(b"\n") + 1
        return [json.loads(line) for line in lines[:end].splitlines()], offset + end

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
        try:
            lock = (self.folder / "writer.lock").open("a")
        except FileNotFoundError:
            yield False
            return
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def write_state(self, state: State) -> None:
        artifacts.write_json(self.folder / "state.json", asdict(state))

    def read_state(self) -> State:
        path = self.folder / "state.json"
        if not path.exists():
            return State()
        tree = artifacts.read_json(path)
        return State(**{**tree, "warnings": tuple(tree["warnings"])})

    def in_use(self) -> bool:
        """Whether a living run appends to it."""
        try:
            with self.records.open("rb+") as file:  # creates nothing: its owner may just have deleted it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def waiting(root: Path) -> list[Spool]:
    """The queues under the project's root, oldest first."""
    changed: dict[Path, float] = {}
    for path in (root / WAITING).glob("*/records.jsonl"):
        with suppress(FileNotFoundError):  # its owner has just deleted it
            changed[path.parent] = path.stat().st_mtime
    return [Spool(folder) for folder in sorted(changed, key=changed.__getitem__)]
