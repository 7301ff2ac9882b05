"""Paths of the pipeline's files; atomic writes, locks and digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

RAW = Path("data/raw")  # verified files, as published
SEARCH = Path("data/search")  # train and validation arrays: all that training and studies can see
TEST = Path("data/test")  # test arrays: opened by evaluate alone
CHECKS = Path("data/checks.json")  # verdicts on the data, with counts and examples
MODEL = Path("models/current")  # weights, architecture, history and run of the trained model
EVALUATION = Path("reports/evaluation")  # metrics, arrays, figures and verdicts
METRICS = Path("reports/metrics.json")  # the headline numbers, for `dvc metrics`
REPORT = Path("reports/index.html")

DOWNLOADS = Path(".cache/downloads")  # kept across data sets, so that nothing is fetched twice
CHECKPOINTS = Path(".cache/checkpoints")  # of unfinished trainings
TEST_OPENINGS = Path(".cache/test_openings.jsonl")  # one line per opening of the test set

SUMS = "SHA256SUMS"  # in a folder written by atomic_folder: the digest of each file, as `sha256sum -c` reads it


class DamagedError(RuntimeError):
    """A file whose content has changed since it was written; the message names it and the remedy."""


@contextmanager
def locked(path: Path, wait: bool = True, notice: str = "") -> Iterator[None]:
    """Hold the lock of ``path`` against all other threads and processes; only its folder must exist.

    The lock is a file ``.NAME.lock`` beside it, removed at the end. The system frees it when its holder ends, even by a kill.

    Raises BlockingIOError if another process holds the lock and ``wait`` is false.

    wait : wait for the present holder
    notice : printed once before waiting
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("a") as file:
            _hold(file, wait, notice)
            if not _is_at(file, lock):  # the previous holder removed it
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


@contextmanager
def sole(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock of ``path`` if possible; yield whether this process holds it. False also if the folder is missing."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait))
            held = True
        except (BlockingIOError, FileNotFoundError):
            held = False
        yield held


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
    """Return whether ``path`` now names this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path``, synced to disk, if the block ends without an error.

    It keeps the suffix, for writers that choose a format by it. After an error it is removed. One process writes at a time;
    others wait.
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
    """Yield a temporary folder that replaces ``path`` if the block ends without an error; otherwise nothing changes.

    It receives the digests of its files (:data:`SUMS`), for :func:`verified`. One process writes at a time; others wait. The
    next call removes the leftovers of a killed process; if that died between the two renames, it restores the old folder.
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
    """Write the digest of every file below ``folder`` to :data:`SUMS`, for :func:`verified`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    (folder / SUMS).write_text("".join(f"{_line(folder, name)}\n" for name in names if name != SUMS))


def verified(folder: Path, only: str | None = None) -> Path:
    """Check the files of ``folder`` against its digests and return it; folders of earlier versions have none.

    Raises DamagedError if a file is missing, or its content has changed.

    only : the one file to check; None: all
    """
    while (damaged := _damaged(folder, only)) is not None:
        path, seen = damaged
        if _identity(folder) == seen:
            raise DamagedError(
                f"{path} is damaged: its content must match {folder / SUMS};"
                f" remove {folder} and repeat the command that made it, or restore both from a copy"
            )
        # Another process has put a new folder in its place meanwhile, so that one half was compared with the other.
    return folder


def _damaged(folder: Path, only: str | None) -> tuple[Path, tuple[int, int] | None] | None:
    """Return the first file that differs from its digest, and the folder as it was before the comparison; None: there is none."""
    seen = _identity(folder)
    try:
        content = (folder / SUMS).read_bytes()
    except FileNotFoundError:
        return None
    for line in content.removesuffix(b"\n").split(b"\n") if content else []:
        name = line[66:].decode(errors="replace")
        if only in (None, name) and not _has_line(folder, name, line):
            return folder / name, seen
    return None


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what no later folder of this name shares; file systems give the inode number of a removed folder to a new one."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns


def _has_line(folder: Path, name: str, line: bytes) -> bool:
    """Return whether the file has this line in :data:`SUMS`."""
    try:
        return _line(folder, name).encode() == line
    except (OSError, ValueError):  # the file is missing, or its name is damaged
        return False


def _line(folder: Path, name: str) -> str:
    return f"{sha256(folder / name)}  {name}"


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the ``count`` newest files of a folder; hidden files, which are being written, stay."""
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
    """Write plain data as indented JSON, atomically. Raises ValueError for NaN and infinity, which are not JSON."""
    write_bytes(path, to_json(tree))


def to_json(tree: Any) -> bytes:
    """Return the JSON of plain data, as :func:`write_json` writes it."""
    return json.dumps(tree, indent=2, allow_nan=False).encode() + b"\n"


def read_json(path: Path) -> Any:
    """Return the plain data of a JSON file. Raises DamagedError if it is not JSON."""
    return _parsed(path.read_bytes(), path)


def _parsed(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise DamagedError(_unreadable(path)) from None


def write_sealed(path: Path, tree: Any, private: bool = False) -> None:
    """Write plain data as JSON with its digest, atomically, for :func:`read_sealed`.

    private : readable by its owner only
    """
    tree = json.loads(json.dumps(tree, allow_nan=False))  # the digest is that of the data as read: text keys, lists for tuples
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600 if private else 0o644)
        temporary.write_bytes(to_json({"sha256": _digest(tree), "content": tree}))


def read_sealed(path: Path) -> Any:
    """Return the data written by :func:`write_sealed`; files of earlier versions have no digest.

    Raises DamagedError if the content has changed since it was written.
    """
    content = path.read_bytes()  # once: its writer may replace the file at any moment
    tree = _parsed(content, path)
    if not isinstance(tree, dict) or not tree.keys() & {"sha256", "content"}:
        return tree
    sealed = tree.keys() == {"sha256", "content"} and _digest(tree["content"]) == tree["sha256"]
    if not sealed or to_json(tree) != content:  # equal data can be spelt differently
        raise DamagedError(_unreadable(path))
    return tree["content"]


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _unreadable(path: Path) -> str:
    return f"{path} is damaged: its content must be what was written; restore it from a copy, or remove it"
