"""An append-only log on disk: one JSON object per line with a checksum, one writer, any number of readers."""

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

BEFORE, DIGITS, AFTER = b', "crc": "', 8, b'"}'  # the end of a line: the CRC-32 of all bytes before it
SUFFIX = len(BEFORE) + DIGITS + len(AFTER)
TRIES = 10  # a reader may hold the lock for an instant


class LineLog:
    """The open log; only the process that holds it appends."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self._file = file

    def append(self, record: Mapping[str, Any], sync: bool = True, allow_nan: bool = False) -> None:
        """Append one record, whole or not at all; with ``sync`` it is on disk on return.

        allow_nan : write NaN and infinity as Python's JSON does; other programs may not read them

        Raises
        ------
        OSError
            Nothing was written, e.g. because the disk is full; the same call may be repeated.
        ValueError
            NaN or infinity without ``allow_nan``.
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
        """Flush appended records to disk."""
        os.fsync(self._file.fileno())


@contextmanager
def opened(path: Path, wait: bool = False) -> Iterator[LineLog]:
    """Hold the log at ``path``, created if missing; drop a line that a killed process left half-written.

    Raises
    ------
    BlockingIOError
        Another process holds it and ``wait`` is false.
    DamagedError
        The last record is damaged; nothing is changed.
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
            if os.fstat(file.fileno()).st_nlink:  # 0: deleted between opening and locking
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
    """Return whether a running process holds the log."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Return the whole records from a byte offset on, and the offset of the next record.

    Raises DamagedError if a record has changed since it was written.
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
    """Return a record as a line, with its checksum."""
    body = json.dumps(record, allow_nan=allow_nan).encode()[:-1]
    return body + BEFORE + _checksum(body) + AFTER + b"\n"


def decode(lines: bytes, path: Path) -> list[Record]:
    """Return the records of whole lines; lines of earlier versions have no checksum.

    Raises DamagedError if a line has changed since it was written; the message gives its number, counted from the first of
    ``lines``.
    """
    records = []
    for number, line in enumerate(lines.split(b"\n")[:-1], 1):
        try:
            records.append(_record(line))
        except ValueError:
            raise DamagedError(f"{path} is damaged: record {number} ({line[:60].decode(errors='replace')}…)") from None
    return records


def _record(line: bytes) -> Record:
    """Return the record of a line. Raises ValueError if the line is damaged."""
    body, end = line[:-SUFFIX], line[-SUFFIX:]
    if end == BEFORE + _checksum(body) + AFTER:
        line = body + b"}"
    elif sum(a == b for a, b in zip(end, BEFORE + bytes(DIGITS) + AFTER, strict=False)) > len(BEFORE):
        raise ValueError(line)  # a damaged checksum; lines of earlier versions have none
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(line)
    return record


def _checksum(body: bytes) -> bytes:
    return f"{zlib.crc32(body):0{DIGITS}x}".encode()


def _whole(content: bytes, path: Path) -> int:
    """Return the end of the last whole line. Raises DamagedError if a whole record without its newline follows."""
    end = content.rfind(b"\n") + 1
    rest = content[end:-1]
    if rest[-SUFFIX : len(rest) - len(AFTER) - DIGITS] == BEFORE and rest.endswith(AFTER):
        raise DamagedError(f"{path} is damaged: its last record does not end as it should")
    return end
