"""IDX files: what was written is read, and whatever is wrong with a file is said with its name."""

import gzip
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.data import DataError
from pipeline.data.idx import read_idx, read_pair

ARRAYS = st.integers(1, 3).flatmap(
    lambda ndim: hnp.arrays(np.uint8, hnp.array_shapes(min_dims=ndim, max_dims=ndim, min_side=0, max_side=5))
)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def written(content: bytes, *, zipped: bool, folder: Path) -> Path:
    path = folder / ("array.gz" if zipped else "array")
    path.write_bytes(gzip.compress(content, compresslevel=1) if zipped else content)
    return path


@given(array=ARRAYS, zipped=st.booleans())
def test_what_was_written_is_read(array: np.ndarray, zipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(idx(array), zipped=zipped, folder=Path(folder))
        np.testing.assert_array_equal(read_idx(path, array.ndim), array)


@given(array=ARRAYS, zipped=st.booleans(), data=st.data())
def test_a_file_cut_anywhere_is_refused_by_name(array: np.ndarray, zipped: bool, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(idx(array), zipped=zipped, folder=Path(folder))
        path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])
        with pytest.raises(DataError, match=f"^{path}: "):
            read_idx(path, array.ndim)


@given(array=ARRAYS, zipped=st.booleans(), extra=st.binary(min_size=1, max_size=9))
def test_bytes_after_the_end_are_refused(array: np.ndarray, zipped: bool, extra: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(idx(array) + extra, zipped=zipped, folder=Path(folder))
        with pytest.raises(DataError, match=f"^{path}: more bytes follow the {array.size} that dimensions"):
            read_idx(path, array.ndim)


@given(array=ARRAYS, zipped=st.booleans(), data=st.data())
def test_a_file_with_one_changed_header_byte_is_refused(array: np.ndarray, zipped: bool, data: st.DataObject) -> None:
    content = bytearray(idx(array))
    content[data.draw(st.integers(0, 3 + 4 * (array.ndim if array.size else 0)))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DataError):
        read_idx(written(bytes(content), zipped=zipped, folder=Path(folder)), array.ndim)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an IDX file of 3-dimensional bytes must start with 00000803, got $"),
        (b"not an IDX file at all", "must start with 00000803, got 6e6f7420$"),
        (idx(np.zeros(4, np.uint8)), "must start with 00000803, got 00000801$"),
        (idx(np.zeros((1, 2, 3), np.uint8))[:9], "ends within the header, after 9 bytes$"),
        (idx(np.zeros((1, 2, 3), np.uint8))[:-1], r"dimensions \(1, 2, 3\) need 6 bytes, got 5$"),
        (idx(np.zeros((1, 2, 3), np.uint8)) + b"\0", r"more bytes follow the 6 that dimensions \(1, 2, 3\) announce$"),
    ],
)
def test_each_fault_has_its_message(content: bytes, message: str, tmp_path: Path) -> None:
    for zipped in (True, False):
        with pytest.raises(DataError, match=message):
            read_idx(written(content, zipped=zipped, folder=tmp_path), 3)


def test_dimensions_that_no_such_file_can_hold_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    content = bytes([0, 0, 8, 3]) + np.array([2**32 - 1] * 3, ">u4").tobytes()
    for zipped in (True, False):
        with pytest.raises(DataError, match=r"the file cannot hold more than"):
            read_idx(written(content, zipped=zipped, folder=tmp_path), 3)


def test_a_gzip_bomb_is_not_inflated_beyond_what_its_header_announces(tmp_path: Path) -> None:
    path = written(idx(np.zeros((1, 2, 2), np.uint8)) + bytes(50_000_000), zipped=True, folder=tmp_path)
    tracemalloc.start()
    with pytest.raises(DataError, match="more bytes follow the 4"):
        read_idx(path, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("position", [12, -1])
def test_gzip_whose_bytes_were_altered_is_refused_by_name(position: int, tmp_path: Path) -> None:
    path = written(idx(np.random.default_rng(0).integers(0, 256, (9, 9, 9), np.uint8)), zipped=True, folder=tmp_path)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: "):
        read_idx(path, 3)


def test_a_pair_becomes_images_with_a_channel_and_int64_labels(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx(np.arange(12, dtype=np.uint8).reshape(3, 2, 2)))
    (tmp_path / "labels").write_bytes(idx(np.array([2, 0, 1], np.uint8)))
    pair = read_pair(tmp_path / "images", tmp_path / "labels", 3)
    assert pair.images.shape == (3, 1, 2, 2)
    assert pair.images.dtype == np.uint8
    assert pair.labels.dtype == np.int64
    assert pair.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "labels: one label per image is needed, got 2 for 3 in images$"),
        ([0, 1, 10], "labels: labels must be in 0 to 9, got 10 at position 2$"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: list[int], message: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx(np.zeros((3, 2, 2), np.uint8)))
    (tmp_path / "labels").write_bytes(idx(np.array(labels, np.uint8)))
    with pytest.raises(DataError, match=message):
        read_pair(tmp_path / "images", tmp_path / "labels", 10)
