"""An append-only log on disk: one JSON object a line, each with a checksum, one holder who appends, any number of readers."""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from pipeline.artifacts import DamagedError

Record = dict[str, Any]

BEFORE, DIGITS, AFTER = b', "crc": "', 8, b'"}'  # how a line ends: CRC-32 of all that stands before
SUFFIX = len(BEFORE) + DIGITS + len(AFTER)
TRIES = 10  # for a lock that a reader may hold for an instant


class LineLog:
    """The open log. Only its holder appends; anybody may read."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self._file = file

    def append(self, record: Mapping[str, Any], sync: bool = True, allow_nan: bool = False) -> None:
        """Add one record, whole or not at all; with ``sync`` it is on disk when this returns.

        allow_nan : write NaN and infinity as Python's JSON does, which other programs may not read

        Raises
        ------
        OSError
            The disk is full, say. Then nothing was written, and the same call may be repeated.
        ValueError
            NaN or infinity, where they are not allowed.
        """
        line = encode(record, allow_nan)
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            if sync:
                self.sync()
        except OSError:
            self._file.truncate(size)
            raise

    def sync(self) -> None:
        """Have on disk what was appended without syncing."""
        os.fsync(self._file.fileno())


@contextmanager
def opened(path: Path, wait: bool = False) -> Iterator[LineLog]:
    """Hold the log at ``path``, made if missing; a line that a killed process left half-written is dropped.

    Raises
    ------
    BlockingIOError
        Another process holds it, and we do not ``wait``.
    DamagedError
        Its last record is damaged; nothing is changed.
    """
    with _held(path, wait) as file:
        file.seek(0)
        file.truncate(_whole(file.readall(), path))
        yield LineLog(path, file)


@contextmanager
def _held(path: Path, wait: bool) -> Iterator[FileIO]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileIO(path, "a+") as file:
            _lock(file, wait)
            if os.fstat(file.fileno()).st_nlink:  # else it was deleted between our opening and locking it
                yield file
                return


def _lock(file: FileIO, wait: bool) -> None:
    for _ in range(0 if wait else TRIES):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def held(path: Path) -> bool:
    """Whether a living process holds the log."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Return the whole records from a byte offset on, and the offset where the next ones will begin.

    Raises
    ------
    DamagedError
        A record is not what was written.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return [], offset
    end = _whole(content, path)
    return decode(content[:end], path), offset + end


def encode(record: Mapping[str, Any], allow_nan: bool = False) -> bytes:
    """Return the line of a record."""
    body = json.dumps(record, allow_nan=allow_nan).encode()[:-1]
    return body + BEFORE + _checksum(body) + AFTER + b"\n"


def decode(lines: bytes, path: Path) -> list[Record]:
    """Return the records of whole lines; those of earlier versions have no checksum.

    Raises
    ------
    DamagedError
        A line is not what was written; names it by its number from ``lines``' first.
    """
    records = []
    for number, line in enumerate(lines.split(b"\n")[:-1], 1):
        try:
            records.append(_record(line))
        except ValueError:
            raise DamagedError(f"{path} is damaged: record {number} ({line[:60].decode(errors='replace')}…)") from None
    return records


def _record(line: bytes) -> Record:
    """Raises ValueError where the line is damaged."""
    body, end = line[:-SUFFIX], line[-SUFFIX:]
    if end == BEFORE + _checksum(body) + AFTER:
        line = body + b"}"
    elif sum(a == b for a, b in zip(end, BEFORE + bytes(DIGITS) + AFTER, strict=False)) > len(BEFORE):
        raise ValueError(line)  # a checksum, be it damaged itself: not a line of an earlier version, which has none
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(line)
    return record


def _checksum(body: bytes) -> bytes:
    return f"{zlib.crc32(body):0{DIGITS}x}".encode()


def _whole(content: bytes, path: Path) -> int:
    """Where the last whole line ends. What follows it is the beginning of a line; a whole one there has lost its newline."""
    end = content.rfind(b"\n") + 1
    rest = content[end:-1]
    if rest[-SUFFIX : len(rest) - len(AFTER) - DIGITS] == BEFORE and rest.endswith(AFTER):
        raise DamagedError(f"{path} is damaged: its last record does not end as it should")
    return end
