"""Fetch the files of a data set once, from the first mirror that has them, and verify their checksums.

A file grows as ``NAME.XXXXXXXX.part`` (a hash of its address, so that two mirrors never mix) and takes its
name only when whole and verified; after a kill or a cut connection the transfer resumes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.digits import write_digits
from pipeline.data.image_folder import write_manifest
from pipeline.data.sources import SOURCES, RemoteFile, Source
from pipeline.data.transfer import MirrorError, NotThereError, UnreachableError, transfer
from pipeline.lineage import without_password

CHUNK = 1 << 20  # bytes
TIMEOUT = 10.0  # seconds without a byte
SLACK = 1 << 16  # bytes that gzip may add to incompressible content
ORIGINS = "origins.json"  # beside the fetched files: the address of each


@dataclass(frozen=True)
class Fetched:
    """A verified file in the cache, and the address that it came from."""

    path: Path
    origin: str


def acquire(section: Data, target: Path, *, cache: Path, mirror: str | None, timeout: float = TIMEOUT) -> None:
    """Fill ``target`` with the files of ``section.name`` and ``source.json``, whole or not at all.

    A folder of images stays in place; only its list of files is written.

    Raises DataError if no mirror has a file, or the folder of images is malformed.
    """
    source = SOURCES[section.name]
    with artifacts.atomic_folder(target) as folder:
        if section.name == "image_folder":
            files = write_manifest(Path(section.path))
        elif section.name == "digits":
            files = write_digits(folder)
        else:
            obtained = obtain(source, cache / source.name, mirror=mirror, timeout=timeout)
            files = {fetched.path.name: _place(fetched, folder) for fetched in obtained}
        artifacts.write_json(folder / "source.json", {"name": source.name, "files": files})


def obtain(source: Source, cache: Path, *, mirror: str | None, timeout: float = TIMEOUT) -> list[Fetched]:
    """Return the verified files of a data set in ``cache``; fetch those that are missing or damaged.

    Raises DataError if no mirror has a file; the message names each mirror with its reason, and the remedy.

    mirror : a folder, file or URL (file, http, https) at or above the data set, tried before the public ones
    timeout : seconds without a byte after which a mirror is given up
    """
    cache.mkdir(parents=True, exist_ok=True)
    with artifacts.locked(cache, notice=f"another process fetches {source.name}; waiting for it"):
        log = cache / ORIGINS
        origins = artifacts.read_sealed(log) if log.is_file() else {}
        obtained = []
        for file in source.files:
            path = _cached(file, cache)
            if path is None:
                fetched = _fetch(file, source, cache, mirror, timeout)
                origins[fetched.path.name] = fetched.origin
                artifacts.write_sealed(log, origins)
                path = fetched.path
            obtained.append(Fetched(path, origins.get(path.name, "cache")))
        return obtained


def mismatch(path: Path, name: str, file: RemoteFile) -> str | None:
    """Return why the content of ``path``, a candidate for ``name``, is not ``file``; None if it is.

    Never decompresses more than the expected content.
    """
    zipped = file.content_md5 is not None and name.endswith(".gz")
    digest, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if file.content_md5 and size > file.bytes:
                    return f"holds more than the expected {file.bytes} bytes"
    except EOFError:
        return f"truncated gzip, after {size} bytes of content"
    except (gzip.BadGzipFile, zlib.error) as error:
        return f"damaged gzip ({error})"
    expected = file.content_md5 or file.md5
    return None if digest.hexdigest() == expected else f"md5 must be {expected}, got {digest.hexdigest()}"


def _cached(file: RemoteFile, cache: Path) -> Path | None:
    for path in (cache / name for name in file.names):
        if path.is_file():
            reason = mismatch(path, path.name, file)
            if reason is None:
                return path
            print(f"{path}: damaged since it was fetched ({reason}); fetching it again", flush=True)
            path.unlink()
    return None


def _fetch(file: RemoteFile, source: Source, cache: Path, mirror: str | None, timeout: float) -> Fetched:
    failures = []
    for base, locations in _mirrors(file, source, mirror):
        try:
            return _from_mirror(file, locations, cache, timeout)
        except MirrorError as error:
            failures.append(f"  {base}: {error}")
    names = ", ".join(each.name for each in source.files)
    tried = "\n".join(failures)
    remedy = (
        f"set data.name: digits, which needs no network, or data.mirror (or STUDYLINE_MIRROR) to a folder or URL with {names}"
    )
    raise DataError(f"{source.name}: {file.name} could not be fetched; tried\n{tried}\n{remedy}")


def _mirrors(file: RemoteFile, source: Source, mirror: str | None) -> Iterator[tuple[str, list[str]]]:
    """Yield each mirror with the file's possible addresses; ``mirror`` may be above or at the data set, or the file itself."""
    if mirror is not None:
        base = mirror.rstrip("/")
        locations = [f"{base}/{folder}{name}" for folder in (f"{source.name}/", "") for name in file.names]
        yield mirror, [base] if base.rsplit("/", 1)[-1] in file.names else locations
    for base in source.mirrors:
        yield base, [f"{base}/{file.name}"]


def _from_mirror(file: RemoteFile, locations: Sequence[str], cache: Path, timeout: float) -> Fetched:
    """Fetch a file from the first of a mirror's addresses that has it; stop at once if the mirror does not answer."""
    failures, absent = [], []
    for location in locations:
        try:
            return _from_location(file, location, cache, timeout)
        except UnreachableError:
            raise
        except NotThereError as error:
            absent.append(f"{error} ({' or '.join(file.names)})")
        except MirrorError as error:
            failures.append(f"{location.rsplit('/', 1)[-1]}: {error}")
    raise MirrorError("; ".join(dict.fromkeys(failures or absent)))


def _from_location(file: RemoteFile, location: str, cache: Path, timeout: float) -> Fetched:
    name = location.rsplit("/", 1)[-1]
    part = cache / f"{name}.{hashlib.md5(location.encode(), usedforsecurity=False).hexdigest()[:8]}.part"
    resumed = part.is_file()
    transfer(location, part, limit=file.bytes + SLACK, timeout=timeout)
    reason = mismatch(part, name, file)
    if reason and resumed:  # the first part may be from another version of the file
        part.unlink()
        transfer(location, part, limit=file.bytes + SLACK, timeout=timeout)
        reason = mismatch(part, name, file)
    if reason:
        part.unlink()
        raise MirrorError(reason)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(cache / name)
    for stale in cache.glob(f"{name}.*.part"):  # of other mirrors
        stale.unlink()
    return Fetched(cache / name, location)


def _place(fetched: Fetched, folder: Path) -> dict[str, Any]:
    """Link (or copy) a cached file into ``folder``; return its description for ``source.json``."""
    target = folder / fetched.path.name
    try:
        os.link(fetched.path, target)
    except OSError:
        shutil.copyfile(fetched.path, target)
    with target.open("rb") as stream:
        md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return {"md5": md5, "bytes": target.stat().st_size, "from": without_password(fetched.origin)}
