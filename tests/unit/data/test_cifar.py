"""The CIFAR-10 binary archive, read without extracting it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import DataError
from pipeline.data.cifar import RECORD, TEST, TRAIN, read_cifar10

LABELS = (3, 9)


def record(label: int, value: int) -> bytes:
    return bytes([label]) + bytes([value]) * 1024 + bytes([value + 1]) * 1024 + bytes([value + 2]) * 1024


def archive(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members() -> list[tuple[str, bytes]]:
    contents = [b"".join(record(label, 10 * number + label) for label in LABELS) for number in range(6)]
    return [(f"cifar-10-batches-bin/{name}", content) for name, content in zip((*TRAIN, TEST), contents, strict=True)]


def test_channels_labels_and_parts_are_where_the_format_says(tmp_path: Path) -> None:
    published = read_cifar10(archive(tmp_path / "c.tar.gz", [("cifar-10-batches-bin/readme.html", b"hello"), *members()]))
    train, test = published.parts["train"], published.parts["test"]
    assert train.images.shape == (10, 3, 32, 32)
    assert train.labels.tolist() == list(LABELS) * 5
    assert test.labels.tolist() == list(LABELS)
    np.testing.assert_array_equal(train.images[3, :, 5, 7], [19, 20, 21])
    np.testing.assert_array_equal(test.images[0].reshape(3, -1).mean(1), [53, 54, 55])


def test_train_batches_are_in_order_whatever_their_order_in_the_archive(tmp_path: Path) -> None:
    first = read_cifar10(archive(tmp_path / "a.tar.gz", members()))
    second = read_cifar10(archive(tmp_path / "b.tar.gz", members()[::-1]))
    np.testing.assert_array_equal(first.parts["train"].images, second.parts["train"].images)


def test_nothing_is_written_wherever_a_member_claims_to_belong(tmp_path: Path) -> None:
    read_cifar10(archive(tmp_path / "c.tar.gz", [("../../evil.txt", b"x"), ("/tmp/evil.txt", b"x"), *members()]))
    assert [path.name for path in tmp_path.iterdir()] == ["c.tar.gz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:-1], f"lacks {TEST}; fetch the file again$"),
        (lambda m: [*m, m[0]], "each member must occur once, got data_batch_1.bin twice"),
        (
            lambda m: [(m[0][0], m[0][1][:-1]), *m[1:]],
            f"must be a file of whole records of {RECORD} bytes, got {2 * RECORD - 1}$",
        ),
        (lambda m: [(m[0][0], b""), *m[1:]], "must be a file of whole records"),
        (lambda m: [*m[:-1], (m[-1][0], record(10, 0))], "test_batch.bin: labels must be in 0 to 9, got 10 at position 0$"),
    ],
)
def test_each_fault_has_its_message(change, message: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "c.tar.gz", change(members()))
    with pytest.raises(DataError, match=message) as caught:
        read_cifar10(path)
    assert str(caught.value).startswith(str(path))


def test_a_link_in_place_of_a_batch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo(TEST)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match="must be a file of whole records"):
        read_cifar10(path)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_archive_is_refused_by_name(kept: float, tmp_path: Path) -> None:
    path = archive(tmp_path / "c.tar.gz", members())
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DataError, match=f"^{path}: .*fetch the file again$"):
        read_cifar10(path)
