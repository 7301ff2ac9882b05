"""Read and write named tensors: safetensors with plain data and a digest of the file in the header, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pipeline.artifacts import DamagedError, write_bytes

KEY, FORMER_KEY = "studyline", "json"  # of the header's one entry; the former had no digest
EMPTY = "0" * 64  # stands for the digest while it is computed
DAMAGED = "the tensors must be those that were written"
REMEDY = "its digest must match its content; restore it from a copy, or train this network again"
MARK = b'{\\"sha256\\": \\"'  # what precedes the digest, JSON within JSON


def pack(tensors: Mapping[str, Tensor], metadata: Any = None) -> bytes:
    """Return the bytes of a safetensors file with plain data and a SHA-256 of the whole, for :func:`unpack`."""
    text = json.dumps({"sha256": EMPTY, "metadata": metadata})
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {KEY: text})
    start = content.index(MARK) + len(MARK)
    return content[:start] + _digest(content, start).encode() + content[start + len(EMPTY) :]


def unpack(content: bytes) -> tuple[dict[str, Tensor], Any]:
    """Return tensors, on the CPU, and plain data from the bytes of :func:`pack`; earlier versions wrote no digest.

    Raises DamagedError if the content has changed since it was packed.
    """
    metadata = check(content)
    try:
        return load(content), metadata
    except (ValueError, SafetensorError):
        raise DamagedError(DAMAGED) from None


def check(content: bytes) -> Any:
    """Check the digest of the bytes of :func:`pack` and return their plain data. Raises DamagedError if it does not match."""
    try:
        end = 8 + int.from_bytes(content[:8], "little")  # the header's length, then the header, as JSON
        header = json.loads(content[8:end])["__metadata__"]
        if header.keys() == {FORMER_KEY}:
            return json.loads(header[FORMER_KEY])
        start = content.index(MARK) + len(MARK)
        if header.keys() == {KEY} and content[start : start + len(EMPTY)] == _digest(content, start).encode():
            return json.loads(header[KEY])["metadata"]
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise DamagedError(DAMAGED)


def _digest(content: bytes, start: int) -> str:
    """Return the SHA-256 of a content whose own digest, at ``start``, is replaced by :data:`EMPTY`."""
    digest = hashlib.sha256(content[:start])
    digest.update(EMPTY.encode())
    digest.update(memoryview(content)[start + len(EMPTY) :])
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write the bytes of :func:`pack` to a file, atomically."""
    write_bytes(path, pack(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors and plain data of a file written by :func:`write_tensors`.

    Raises DamagedError if the file has changed since it was written.
    """
    try:
        return unpack(path.read_bytes())
    except DamagedError:
        raise DamagedError(f"{path} is damaged: {REMEDY}") from None
