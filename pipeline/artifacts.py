"""Where the files of the pipeline are, and how they are written: whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file

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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place, synced to disk, if the block ends without an error.

    The temporary file keeps the suffix, for writers that choose a format by it. On an error it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0600
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place if the block ends without an error; else nothing changes.

    What a process killed in such a block has left behind is removed; killed between the two renames, the old folder returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}-*"):
        if not path.exists() and (left_over / "old").exists():
            (left_over / "old").rename(path)
        shutil.rmtree(left_over)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as name:
        fresh, old = Path(name, "new"), Path(name, "old")
        fresh.mkdir()
        yield fresh
        if path.exists():
            path.rename(old)
        fresh.rename(path)


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the last written files of a folder."""
    with os.scandir(folder) as entries:
        files = sorted((entry.stat().st_mtime, entry.path) for entry in entries)
    for _, path in files[: max(len(files) - count, 0)]:
        Path(path).unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise ``OSError`` now if ``path`` could not be written later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()


def write_json(path: Path, tree: Any) -> None:
    """Write plain data as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Any = None) -> None:
    """Write named tensors as safetensors, atomically, with plain data beside them in the header."""
    with atomic_path(path) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"json": json.dumps(metadata)})
        except SafetensorError as error:  # a full disk, most likely
            raise OSError(f"{path}: {error}") from None


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, on the CPU. Nothing is unpickled."""
    return load_file(path)


def pack(tensors: Mapping[str, torch.Tensor], metadata: Any = None) -> bytes:
    """What :func:`write_tensors` would write."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"json": json.dumps(metadata)})


def unpack(content: bytes) -> tuple[dict[str, torch.Tensor], Any]:
    """The inverse of :func:`pack`: tensors on the CPU, and the plain data beside them. Nothing is unpickled."""
    end = 8 + int.from_bytes(content[:8], "little")  # the header's length, then the header, as JSON
    return load(content), json.loads(json.loads(content[8:end])["__metadata__"]["json"])
