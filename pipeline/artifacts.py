"""Where the files of the pipeline are, and how they are written: whole, by one process at a time, and known by their digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

RAW = Path("data/raw")  # verified files, as published
SEARCH = Path("data/search")  # train and validation arrays: all that training and studies can see
TEST = Path("data/test")  # test arrays: opened by evaluate alone
CHECKS = Path("data/checks.json")  # what was found in the data
MODEL = Path("models/current")  # weights, architecture, history and run of the trained model
EVALUATION = Path("reports/evaluation")  # metrics, arrays, figures and verdicts
METRICS = Path("reports/metrics.json")  # the headline numbers, for `dvc metrics`
REPORT = Path("reports/index.html")

DOWNLOADS = Path(".cache/downloads")  # what was fetched, kept across data sets so that nothing is fetched twice
CHECKPOINTS = Path(".cache/checkpoints")  # of a training that has not ended
TEST_OPENINGS = Path(".cache/test_openings.jsonl")  # one line for each time that the test set was opened

SUMS = "SHA256SUMS"  # in a folder that was written at once: a digest for each file, as `sha256sum -c` reads it


class DamagedError(RuntimeError):
    """A file no longer holds what was written: one line that names it and says what to do."""


@contextmanager
def locked(path: Path, wait: bool = True, notice: str = "") -> Iterator[None]:
    """Hold the lock of ``path``, which need not exist but its folder, against all other threads and processes.

    The lock is a file ``.NAME.lock`` beside it, removed at the end. It is free as soon as its holder ends, even by a kill.

    Parameters
    ----------
    wait : for whoever holds it now
    notice : printed once where it must be waited for

    Raises
    ------
    BlockingIOError
        Another process holds it, and we do not wait.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("a") as file:
            _hold(file, wait, notice)
            if not _is_at(file, lock):  # whoever held it before us has removed it
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _hold(file: IO[Any], wait: bool, notice: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        if notice:
            print(notice, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether the open file is the one that lies at ``path`` now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place, synced to disk, if the block ends without an error.

    The temporary file keeps the suffix, for writers that choose a format by it. On an error it is removed; what a killed process
    left of it is written over. One process at a time writes; others wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.new{path.suffix}")
    with locked(path):
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place if the block ends without an error; else nothing changes.

    The digests of its files are written into it (:data:`SUMS`), for :func:`verified`. One process at a time writes; others
    wait. What a killed process left is removed; killed between the two renames, the old folder returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    with locked(path):
        if old.exists() and not path.exists():
            old.rename(path)
        _remove(fresh, old)
        fresh.mkdir()
        try:
            yield fresh
            write_sums(fresh)
            if path.exists():
                path.rename(old)
            fresh.rename(path)
        finally:
            _remove(fresh, old)


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write down the digest of every file below ``folder``, for :func:`verified`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    (folder / SUMS).write_text("".join(f"{_line(folder, name)}\n" for name in names if name != SUMS))


def verified(folder: Path, only: str | None = None) -> Path:
    """Return ``folder`` after comparing its files with the digests that were written with it; older folders have none.

    only : the one file to compare; None: all

    Raises
    ------
    DamagedError
        A file is missing, or its content has changed.
    """
    if not (folder / SUMS).is_file():
        return folder
    content = (folder / SUMS).read_bytes()
    for line in content.removesuffix(b"\n").split(b"\n") if content else []:
        name = line[66:].decode(errors="replace")
        if only in (None, name) and not _has_line(folder, name, line):
            raise DamagedError(
                f"{folder / name} is damaged: it has not the content listed in {folder / SUMS};"
                f" remove {folder} and run the command again that made it, or restore both from a copy"
            )
    return folder


def _has_line(folder: Path, name: str, line: bytes) -> bool:
    """Whether a file has the line of :data:`SUMS` that is given."""
    try:
        return _line(folder, name).encode() == line
    except (OSError, ValueError):  # it is gone, or its name is damaged
        return False


def _line(folder: Path, name: str) -> str:
    return f"{sha256(folder / name)}  {name}"


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the last written files of a folder; hidden ones, which are being written, stay."""
    with os.scandir(folder) as entries:
        files = sorted((entry.stat().st_mtime, entry.path) for entry in entries if not entry.name.startswith("."))
    for _, path in files[: max(len(files) - count, 0)]:
        Path(path).unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise ``OSError`` now if ``path`` could not be written later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        pass


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, tree: Any) -> None:
    """Write plain data as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_bytes(path, to_json(tree))


def to_json(tree: Any) -> bytes:
    """Return plain data as :func:`write_json` writes it."""
    return json.dumps(tree, indent=2, allow_nan=False).encode() + b"\n"


def read_json(path: Path) -> Any:
    """Read plain data. Raises ``DamagedError`` where the file is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise DamagedError(_unreadable(path)) from None


def write_sealed(path: Path, tree: Any, private: bool = False) -> None:
    """Write plain data as JSON with its digest, atomically, for :func:`read_sealed`.

    private : only its owner may read it
    """
    tree = json.loads(json.dumps(tree, allow_nan=False))  # as it will be read: keys are texts, tuples are lists
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600 if private else 0o644)
        temporary.write_bytes(to_json({"sha256": _digest(tree), "content": tree}))


def read_sealed(path: Path) -> Any:
    """Read what :func:`write_sealed` wrote; files of earlier versions hold the data alone.

    Raises
    ------
    DamagedError
        The content has changed since it was written.
    """
    tree = read_json(path)
    if not isinstance(tree, dict) or not tree.keys() & {"sha256", "content"}:
        return tree
    sealed = tree.keys() == {"sha256", "content"} and _digest(tree["content"]) == tree["sha256"]
    if not sealed or to_json(tree) != path.read_bytes():  # letters of a number or of an escape may differ and mean the same
        raise DamagedError(_unreadable(path))
    return tree["content"]


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _unreadable(path: Path) -> str:
    return f"{path} is damaged: it has not the content that was written; restore it from a copy, or remove it"
