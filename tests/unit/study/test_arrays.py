"""The copy of the data that a study works on: named after its content, never changed, one process at a time makes it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import DamagedError
from pipeline.config import Data
from pipeline.data.dataset import SearchData, open_test
from study.engine.arrays import PREPARED, UNUSED, arrays
from study.state.ledger import STUDIES, Ledger

LIMITED = Data(limit=200)


@pytest.fixture
def pictures(tmp_path) -> Data:
    """A folder of 2 x 30 images."""
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        add(tmp_path / "pictures" / label, range(30))
    return Data(name="image_folder", path=str(tmp_path / "pictures"), image_size=8)


def add(folder: Path, numbers) -> None:
    for number in numbers:
        pixels = np.random.default_rng([number, folder.name == "cat"]).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def copies(root: Path) -> list[str]:
    return sorted(path.name for path in (root / PREPARED).iterdir())


def test_published_data_are_prepared_once(tmp_path) -> None:
    first = arrays(LIMITED, tmp_path, None)
    written = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    assert arrays(LIMITED, tmp_path, None) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()} == written
    assert first.folder.name.endswith(f"-{first.info.fingerprint[:16]}")
    assert arrays(Data(limit=300), tmp_path, None).folder != first.folder


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: add(folder / "cat", range(30, 60)),
        lambda folder: [(folder / "dog" / f"{number}.png").unlink() for number in range(5)],
        lambda folder: shutil.copyfile(folder / "dog/1.png", folder / "cat/1.png"),
        lambda folder: (folder / "dog/1.png").rename(folder / "cat/99.png"),
    ],
    ids=["grows", "shrinks", "an image is replaced", "an image changes its class"],
)
def test_when_a_folder_changes_its_former_copy_stays_as_it_was_and_there_is_another(tmp_path, pictures, change) -> None:
    before = arrays(pictures, tmp_path, None)
    kept = content(before.folder)
    change(Path(pictures.path))
    after = arrays(pictures, tmp_path, None)
    assert after.folder != before.folder
    assert after.info.fingerprint != before.info.fingerprint
    assert content(before.folder) == kept
    assert SearchData.read(before.search).info == before.info


def test_the_same_images_again_are_the_same_copy(tmp_path, pictures) -> None:
    before = arrays(pictures, tmp_path, None)
    kept = {path: path.stat().st_mtime_ns for path in before.folder.rglob("*") if path.is_file()}
    add(Path(pictures.path) / "cat", [77])
    arrays(pictures, tmp_path, None)
    (Path(pictures.path) / "cat/77.png").unlink()
    assert arrays(pictures, tmp_path, None) == before
    assert {path: path.stat().st_mtime_ns for path in before.folder.rglob("*") if path.is_file()} == kept
    assert len(copies(tmp_path)) == 2


def test_processes_that_need_the_same_data_at_once_wait_for_the_one_that_prepares_them(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.config import Data; from study.engine.arrays import arrays\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(arrays(Data(limit=300), Path(sys.argv[1]), None).folder)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ended
    assert len({out.splitlines()[-1] for out, _ in ended}) == 1
    waited = [line for out, _ in ended for line in out.splitlines()[:-1]]
    assert set(waited) <= {"another process prepares the data set digits; waiting for it"}
    assert len(copies(tmp_path)) == 1, "nothing temporary is left"


def test_what_a_killed_process_left_half_prepared_is_made_anew(tmp_path) -> None:
    folder = arrays(LIMITED, tmp_path, None).folder
    settings = folder.name.partition("-")[0]
    folder.rename(folder.with_name(f".{settings}.new"))
    (tmp_path / PREPARED / f".{settings}.new/search/train_images.npy").unlink()
    assert arrays(LIMITED, tmp_path, None).folder == folder
    assert copies(tmp_path) == [folder.name]


def test_a_copy_goes_when_no_ledger_names_it_and_nobody_asked_for_it_since_yesterday(tmp_path, pictures) -> None:
    named = arrays(pictures, tmp_path, None)
    with Ledger.open(tmp_path / STUDIES / "night") as ledger:
        ledger.append("asked", fingerprint=named.info.fingerprint)
    add(Path(pictures.path) / "cat", [100])
    unnamed = arrays(pictures, tmp_path, None)
    add(Path(pictures.path) / "cat", [101])
    recent = arrays(pictures, tmp_path, None)
    long_ago = time.time() - UNUSED - 60
    for old in (named, unnamed):
        os.utime(old.folder, (long_ago, long_ago))
    add(Path(pictures.path) / "cat", [102])
    newest = arrays(pictures, tmp_path, None)
    assert copies(tmp_path) == sorted(kept.folder.name for kept in (named, recent, newest))


@pytest.mark.parametrize("part", ["search/train_images.npy", "search/validation_labels.npy", "search/dataset.json"])
def test_damaged_arrays_are_refused_by_name_and_prepared_anew_once_removed(tmp_path, part) -> None:
    place = arrays(LIMITED, tmp_path, None)
    damaged = bytearray((place.folder / part).read_bytes())
    damaged[-3] ^= 1
    (place.folder / part).write_bytes(damaged)
    with pytest.raises(DamagedError, match=f"{part.partition('/')[2]} is damaged"):
        arrays(LIMITED, tmp_path, None)
    with pytest.raises(DamagedError):
        SearchData.read(place.search)
    shutil.rmtree(place.search)  # as the message says
    assert arrays(LIMITED, tmp_path, None) == place


def test_damaged_test_images_are_refused_and_count_as_no_opening(tmp_path) -> None:
    place = arrays(LIMITED, tmp_path, None)
    damaged = bytearray((place.test / "test_images.npy").read_bytes())
    damaged[-1] ^= 128
    (place.test / "test_images.npy").write_bytes(damaged)
    with pytest.raises(DamagedError, match=r"test_images\.npy is damaged"):
        open_test(place.test, tmp_path / "openings.jsonl", "f", "me")
    assert not (tmp_path / "openings.jsonl").exists()
