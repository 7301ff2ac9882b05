"""Transfer the bytes at one address (http, https, file URL or path) into a file; resume an interrupted transfer."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from urllib.request import url2pathname

import requests
import urllib3

from pipeline.data.progress import progress

CHUNK = 1 << 18  # bytes per update of the progress


class MirrorError(Exception):
    """An address did not give the file; the message is one reason, without the address."""


class NotThereError(MirrorError):
    """The server answers but does not have the file."""


class UnreachableError(MirrorError):
    """The server does not answer."""


class _CutError(Exception):
    """The connection broke; the bytes received so far are in the file."""


def transfer(location: str, part: Path, *, limit: int, timeout: float) -> None:
    """Append to ``part`` until the other side reports that it is whole.

    Parameters
    ----------
    limit : bytes; larger files are refused
    timeout : seconds without a byte before an attempt is given up

    Raises
    ------
    MirrorError
        The other side does not have the file, does not answer, or stops answering. Received bytes stay in ``part``.
    OSError
        ``part`` cannot be written.
    """
    if not location.startswith(("http://", "https://")):
        return _copy(location, part, limit)
    while True:
        before = _size(part)
        try:
            return _request(location, part, limit, timeout)
        except _CutError as error:
            # Each attempt must bring new bytes; otherwise a server that cannot resume would be asked forever.
            if _size(part) <= before:
                raise (MirrorError if before else UnreachableError)(str(error)) from None


def _request(url: str, part: Path, limit: int, timeout: float) -> None:
    done = _size(part)
    # No compression in transit: we want the bytes of a .gz file, not its content.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            extent = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
            if response.status_code == 416 and done:
                if extent is None or int(extent[2]) != done:
                    part.unlink()  # longer than the published file: another version
                    _request(url, part, limit, timeout)
                return  # whole already: a kill came between the last byte and the check
            if response.status_code in (404, 410):
                raise NotThereError(f"HTTP {response.status_code} {response.reason}")
            if not response.ok:
                raise MirrorError(f"HTTP {response.status_code} {response.reason}")
            resumes = response.status_code == 206 and extent is not None and extent[1] == str(done)
            done = done if resumes else 0
            length = response.headers.get("Content-Length", "")
            total = done + int(length) if length.isdecimal() else limit
            chunks = response.raw.stream(CHUNK, decode_content=False)
            with part.open("ab" if resumes else "wb") as file:
                _write(chunks, file, url, done, total, limit)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _CutError(_reason(error, timeout)) from None


def _copy(location: str, part: Path, limit: int) -> None:
    is_url = location.startswith("file://")
    path = Path(url2pathname(location.removeprefix("file://")) if is_url else location).expanduser()
    if not path.is_file():
        raise NotThereError("no such file")
    try:
        source = path.open("rb")
    except OSError as error:
        raise MirrorError(error.strerror or str(error)) from None
    with source, part.open("wb") as file:
        _write(iter(lambda: source.read(CHUNK), b""), file, location, 0, path.stat().st_size, limit)


def _write(chunks: Iterable[bytes], file: BinaryIO, label: str, done: int, total: int, limit: int) -> None:
    with progress(label, total, is_bytes=True) as show:
        for chunk in chunks:
            done += len(chunk)
            if done > limit:
                raise MirrorError(f"the file must have at most {limit} bytes, got more")
            file.write(chunk)
            show(done)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: BaseException, timeout: float) -> str:
    """Return the innermost cause of an error of requests or urllib3."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, requests.exceptions.InvalidURL):
        return f"no valid URL ({error})"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return f"no secure connection ({seen.reason or seen})"
        if isinstance(seen, socket.gaierror):
            return f"no such host ({seen.strerror})"
        if type(seen) in (ConnectionRefusedError, ConnectionResetError, BrokenPipeError) and isinstance(seen, OSError):
            return seen.strerror or type(seen).__name__
        if isinstance(seen, urllib3.exceptions.IncompleteRead):
            return "the connection was cut"
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__
