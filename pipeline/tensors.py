"""Named tensors on disk: safetensors with plain data and a digest of the whole in the header. Nothing is unpickled."""

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
DAMAGED = "the tensors are not those that were written"
REMEDY = "its digest is not that of its content; restore it from a copy, or train this network again"
MARK = b'{\\"sha256\\": \\"'  # what precedes the digest, JSON within JSON


def pack(tensors: Mapping[str, Tensor], metadata: Any = None) -> bytes:
    """Return the content of a safetensors file with plain data and a SHA-256 of everything; see :func:`unpack`."""
    text = json.dumps({"sha256": EMPTY, "metadata": metadata})
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {KEY: text})
    start = content.index(MARK) + len(MARK)
    return content[:start] + _digest(content, start).encode() + content[start + len(EMPTY) :]


def unpack(content: bytes) -> tuple[dict[str, Tensor], Any]:
    """Return tensors, on the CPU, and plain data from :func:`pack`; files of earlier versions have no digest.

    Raises
    ------
    DamagedError
        The content is not what was packed.
    """
    metadata = check(content)
    try:
        return load(content), metadata
    except (ValueError, SafetensorError):
        raise DamagedError(DAMAGED) from None


def check(content: bytes) -> Any:
    """Return the plain data from :func:`pack` where the whole content is as it was packed.

    Raises
    ------
    DamagedError
        It is not.
    """
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
    """The SHA-256 of a content as if its own digest, which begins at ``start``, were :data:`EMPTY`."""
    digest = hashlib.sha256(content[:start])
    digest.update(EMPTY.encode())
    digest.update(memoryview(content)[start + len(EMPTY) :])
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write :func:`pack`'s content to a file, atomically."""
    write_bytes(path, pack(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return what :func:`write_tensors` wrote.

    Raises
    ------
    DamagedError
        The file is not what was written.
    """
    try:
        return unpack(path.read_bytes())
    except DamagedError:
        raise DamagedError(f"{path} is damaged: {REMEDY}") from None
