"""What a mirror may do to us, from a real server on this machine: cut, hang, lie, lack the file, or know nothing of ranges."""

import gzip
import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.download import acquire, obtain
from pipeline.data.sources import SOURCES, RemoteFile, Source, read_published

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
ZIPPED = gzip.compress(CONTENT, compresslevel=1, mtime=0)
CUT = 1_000_000


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


FILE = RemoteFile(name="blob.gz", bytes=len(CONTENT), md5=md5(ZIPPED), content_md5=md5(CONTENT))
SOURCE = Source(name="blobs", read=SOURCES["digits"].read, files=(FILE,))


class Server(ThreadingHTTPServer):
    """Serves ``answer(handler)``, and remembers each request as (path, Range header)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.answer: Callable[[Handler], None] = whole
        self.sent, self.released = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """A client that was killed is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"]))
        self.server.answer(self)

    def log_message(self, *args: object) -> None:
        pass

    def send(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    @property
    def start(self) -> int:
        """Where the client wants to go on."""
        return int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def whole(handler: Handler) -> None:
    handler.send(200, ZIPPED)


def in_ranges(handler: Handler) -> None:
    start = handler.start
    if not start:
        return handler.send(200, ZIPPED)
    if start >= len(ZIPPED):
        return handler.send(416, b"", Content_Range=f"bytes */{len(ZIPPED)}")
    return handler.send(206, ZIPPED[start:], Content_Range=f"bytes {start}-{len(ZIPPED) - 1}/{len(ZIPPED)}")


def cutting(handler: Handler) -> None:
    """At most CUT bytes a connection."""
    rest = ZIPPED[handler.start :]
    headers = {"Content_Range": f"bytes {handler.start}-{len(ZIPPED) - 1}/{len(ZIPPED)}"} if handler.start else {}
    handler.send(206 if handler.start else 200, rest[:CUT], length=len(rest), **headers)
    handler.close_connection = True


def cutting_without_ranges(handler: Handler) -> None:
    handler.send(200, ZIPPED[:CUT], length=len(ZIPPED))
    handler.close_connection = True


def hanging(handler: Handler) -> None:
    """The first part, then silence."""
    handler.send(200, ZIPPED[:CUT], length=len(ZIPPED))
    handler.server.sent.set()
    handler.server.released.wait(30)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def at(*mirrors: str) -> Source:
    return replace(SOURCE, mirrors=mirrors)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once_and_verified_each_time(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
        assert fetched.path.read_bytes() == ZIPPED
        assert fetched.origin == f"{server.url}/blob.gz"
    assert server.requests == [("/blob.gz", None)]


def test_a_damaged_cached_file_is_fetched_anew_and_said_so(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blob.gz").write_bytes(ZIPPED[:-9])
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED
    assert "blob.gz: damaged since it was fetched (truncated gzip" in capsys.readouterr().out


def test_a_cut_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.answer = cutting
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked in server.requests if asked]
    assert len(starts) >= 2
    assert starts == sorted(set(starts))  # each goes on where the one before stopped


def test_a_server_without_ranges_is_asked_for_the_whole_again(server: Server, tmp_path: Path) -> None:
    answers = iter([cutting_without_ranges, whole])
    server.answer = lambda handler: next(answers)(handler)
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED
    assert len(server.requests) == 2


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server: Server, tmp_path: Path) -> None:
    server.answer = cutting_without_ranges
    with pytest.raises(DataError, match="the connection was cut"):
        obtain(at(server.url), tmp_path, mirror=None)
    assert len(server.requests) == 2


def test_what_was_left_of_another_version_of_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.answer = cutting_without_ranges
    with pytest.raises(DataError):
        obtain(at(server.url), tmp_path, mirror=None)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(bytes(500_000))
    server.answer = in_ranges
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED
    assert [asked for _, asked in server.requests[-2:]] == ["bytes=500000-", None]


@pytest.mark.parametrize(("left", "asked"), [(ZIPPED, 1), (ZIPPED + b"more", 2)], ids=["whole", "too long"])
def test_a_part_that_reaches_the_end_needs_no_byte_more(left: bytes, asked: int, server: Server, tmp_path: Path) -> None:
    server.answer = cutting_without_ranges
    with pytest.raises(DataError):
        obtain(at(server.url), tmp_path, mirror=None)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(left)
    server.requests.clear()
    server.answer = in_ranges
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED
    assert len(server.requests) == asked


def test_a_file_that_somebody_compressed_again_is_accepted(server: Server, tmp_path: Path) -> None:
    again = gzip.compress(CONTENT, compresslevel=0, mtime=0)
    server.answer = lambda handler: handler.send(200, again)
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == again


def test_a_server_that_declares_the_gzip_as_an_encoding_does_not_change_the_file(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: handler.send(200, ZIPPED, Content_Encoding="gzip")
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED


def test_where_only_the_compressed_checksum_is_known_a_recompressed_file_is_refused(server: Server, tmp_path: Path) -> None:
    source = replace(at(server.url), files=(replace(FILE, content_md5=None),))
    assert obtain(source, tmp_path / "a", mirror=None)[0].path.read_bytes() == ZIPPED
    server.answer = lambda handler: handler.send(200, gzip.compress(CONTENT, compresslevel=0, mtime=0))
    with pytest.raises(DataError, match=f"md5 must be {FILE.md5}, got "):
        obtain(source, tmp_path / "b", mirror=None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(b"something else", mtime=0), f"md5 must be {FILE.content_md5}, got {md5(b'something else')}"),
        (b"<html>please log in</html>", r"damaged gzip \(Not a gzipped file"),
        (ZIPPED[:-1], r"truncated gzip, after \d+ bytes of content"),
        (gzip.compress(CONTENT + bytes(10_000_000), mtime=0), "holds more than the expected 3000000 bytes"),
        (ZIPPED + bytes(100_000), "the file must have at most 3065536 bytes"),
    ],
)
def test_wrong_content_is_refused_with_its_reason_and_leaves_nothing_behind(
    body: bytes, reason: str, server: Server, tmp_path: Path
) -> None:
    server.answer = lambda handler: handler.send(200, body)
    with pytest.raises(DataError, match=reason):
        obtain(at(server.url), tmp_path, mirror=None)
    assert "blob.gz" not in names(tmp_path)


def test_a_wrong_mirror_is_passed_over_for_the_next(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: whole(handler) if handler.path.startswith("/good") else handler.send(200, b"bad")
    (fetched,) = obtain(at(f"{server.url}/bad", f"{server.url}/good"), tmp_path, mirror=None)
    assert fetched.origin == f"{server.url}/good/blob.gz"
    assert names(tmp_path) == ["blob.gz", "origins.json"]


def test_a_failure_names_every_mirror_with_its_reason_and_says_what_to_do(server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    answers = {"/gone": 404, "/broken": 503}
    server.answer = lambda handler: handler.send(answers[handler.path.rsplit("/", 1)[0]], b"")
    source = at(f"{server.url}/gone", f"{server.url}/broken", closed, "http://host.invalid", "http://[bad")
    with pytest.raises(DataError) as caught:
        obtain(source, tmp_path / "cache", mirror=str(tmp_path / "empty"))
    first, *reasons, last = str(caught.value).splitlines()
    assert first == "blobs: blob.gz could not be fetched; tried"
    assert reasons[:4] == [
        f"  {tmp_path / 'empty'}: no such file (blob.gz or blob)",
        f"  {server.url}/gone: HTTP 404 Not Found (blob.gz or blob)",
        f"  {server.url}/broken: blob.gz: HTTP 503 Service Unavailable",
        f"  {closed}: Connection refused",
    ]
    assert reasons[4].startswith("  http://host.invalid: no such host (")
    assert reasons[5].startswith("  http://[bad: no valid URL (")
    assert last.startswith(
        "set data.name: digits, which needs no network, or data.mirror (or STUDYLINE_MIRROR) to a folder or URL"
    )
    assert last.endswith("with blob.gz")


def test_a_silent_server_is_given_up_after_the_timeout(server: Server, tmp_path: Path) -> None:
    server.answer = hanging
    with pytest.raises(DataError, match=r"no answer within 0.2 s"):
        obtain(at(server.url), tmp_path, mirror=None, timeout=0.2)
    assert len(server.requests) == 2  # it had sent something, so it was asked once more


@pytest.mark.parametrize("form", ["above", "at", "file", "URL above", "URL at", "file URL"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_named_mirror_may_be_above_or_at_the_data_set_or_the_file(
    form: str, zipped: bool, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "mirror" / "blobs"
    folder.mkdir(parents=True)
    name, content = ("blob.gz", ZIPPED) if zipped else ("blob", CONTENT)
    (folder / name).write_bytes(content)
    server.answer = lambda handler: handler.send(*((200, content) if handler.path == f"/blobs/{name}" else (404, b"")))
    mirror = {
        "above": str(folder.parent),
        "at": f"{folder}/",
        "file": str(folder / name),
        "URL above": server.url,
        "URL at": f"{server.url}/blobs",
        "file URL": folder.as_uri(),
    }[form]
    (fetched,) = obtain(SOURCE, tmp_path / "cache", mirror=mirror)
    assert fetched.path.name == name
    assert fetched.path.read_bytes() == content


def test_a_file_appears_only_when_whole_and_a_killed_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.answer = hanging
    script = (
        "import sys; from pathlib import Path; from pipeline.data.download import obtain;"
        "from pipeline.data.sources import RemoteFile, Source;"
        f"source = Source(name='blobs', read=None, files=({FILE!r},), mirrors=({server.url!r},));"
        "obtain(source, Path(sys.argv[1]), mirror=None, timeout=60)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        assert server.sent.wait(60)
        parts: list[Path] = []
        while process.poll() is None and sum(part.stat().st_size for part in parts) < CUT // 2:
            parts = list(tmp_path.glob("blob.gz.*.part"))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert "blob.gz" not in names(tmp_path)
    (part,) = tmp_path.glob("*.part")
    had = part.stat().st_size
    server.answer = in_ranges
    (fetched,) = obtain(at(server.url), tmp_path, mirror=None)
    assert fetched.path.read_bytes() == ZIPPED
    assert server.requests[-1] == ("/blob.gz", f"bytes={had}-")
    assert names(tmp_path) == ["blob.gz", "origins.json"]


def test_every_source_can_be_verified() -> None:
    assert set(SOURCES) == {"digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "image_folder"}
    for source in SOURCES.values():
        assert bool(source.files) == bool(source.mirrors) == (source.name not in ("digits", "image_folder"))
        for file in source.files:
            assert all(len(digest) == 32 for digest in (file.md5, file.content_md5) if digest is not None)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_our_checksums_of_the_published_files_are_those_of_torchvision(name: str) -> None:
    spec = importlib.util.find_spec("torchvision")  # read, not imported: its wheel does not import beside every torch
    table = Path(spec.origin).with_name("datasets").joinpath("mnist.py").read_text()
    for file in SOURCES[name].files:
        assert f'("{file.name}", "{file.md5}")' in table


def test_mnist_comes_from_a_folder_above_it_and_is_the_published_one(shared_data: Path, tmp_path: Path) -> None:
    section = Data(name="mnist")
    for _ in range(2):
        acquire(section, tmp_path / "raw", cache=tmp_path / "cache", mirror=str(shared_data))
    described = artifacts.read_json(tmp_path / "raw" / "source.json")
    assert described["name"] == "mnist"
    assert names(tmp_path / "raw") == sorted([artifacts.SUMS, "source.json", *described["files"]])
    assert all(file["from"].startswith(str(shared_data)) for file in described["files"].values())
    published = read_published(tmp_path / "raw", section)
    assert {part: split.images.shape for part, split in published.parts.items()} == {
        "train": (60_000, 1, 28, 28),
        "test": (10_000, 1, 28, 28),
    }
    assert published.parts["train"].labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_a_corrupted_file_in_the_mirror_folder_is_refused_by_name(shared_data: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    labels = bytearray(gzip.decompress((shared_data / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes()))
    labels[100] ^= 1
    (mirror / "t10k-labels-idx1-ubyte").write_bytes(labels)
    source = replace(SOURCES["mnist"], files=SOURCES["mnist"].files[3:], mirrors=())
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: md5 must be 27ae3e4e09519cfbb04c329615203637, got "):
        obtain(source, tmp_path / "cache", mirror=str(mirror))
