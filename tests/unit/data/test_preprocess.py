"""The two stages on real data: what they write, that they write it whole, and that they say in one line what is wrong."""

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.dataset import SearchData, Split
from pipeline.data.download import acquire
from pipeline.data.prepare import Prepared, prepare
from pipeline.data.sources import read_published
from pipeline.stages import download, preprocess


def prepared(workspace: Path, mirror: Path | None = None, **keys) -> Prepared:
    section = Data(**keys)
    acquire(section, workspace / "raw", cache=workspace / "cache", mirror=str(mirror) if mirror else None)
    return prepare(read_published(workspace / "raw", section), section)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, as a stage finds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STUDYLINE_MIRROR", raising=False)
    return tmp_path


def tree(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_digits_go_from_nothing_to_arrays_without_network(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("data:\n  name: digits\n")
    download.main()
    preprocess.main()
    data, test = SearchData.read(artifacts.SEARCH), Split.read(artifacts.TEST, "test")
    assert (len(data.train), len(data.validation), len(test)) == (1294, 144, 359)
    assert data.train.images.shape[1:] == data.info.shape == (1, 28, 28)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    assert data.info.classes == tuple("0123456789")
    assert data.info.counts["test"] == tuple(np.bincount(test.labels))
    assert data.info.mean[0] == pytest.approx((data.train.images / 255).mean())
    assert {verdict["level"] for verdict in artifacts.read_sealed(artifacts.CHECKS)["verdicts"]} == {"good"}


def test_running_the_stages_again_writes_the_same_bytes(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("data:\n  limit: 100\n  image_size: 12\n  channels: 3\n")
    trees = []
    for _ in range(2):
        download.main()
        preprocess.main()
        trees.append(tree(workspace / "data"))
    assert trees[0] == trees[1]
    assert SearchData.read(artifacts.SEARCH).info.shape == (3, 12, 12)


def test_the_seed_changes_the_split_and_the_fingerprint_but_not_the_images(tmp_path: Path) -> None:
    first, second = (prepared(tmp_path, seed=seed) for seed in (0, 1))
    assert first.search.info.fingerprint != second.search.info.fingerprint

    def images(each: Prepared) -> list[bytes]:
        splits = (each.search.train, each.search.validation, each.test)
        return sorted(image.tobytes() for split in splits for image in split.images)

    assert images(first) == images(second)


def test_merged_classes_keep_their_images_and_say_their_names(tmp_path: Path) -> None:
    groups = ((0, 6), (1, 7), (2, 3, 5, 8), (4, 9))
    plain, merged = prepared(tmp_path), prepared(tmp_path, merge=groups)
    assert merged.search.info.classes == ("0+6", "1+7", "2+3+5+8", "4+9")
    total, joined = (np.sum(list(each.search.info.counts.values()), axis=0) for each in (plain, merged))
    assert joined.tolist() == [total[list(group)].sum() for group in groups]


def test_a_limit_is_said_in_the_report(tmp_path: Path) -> None:
    verdict = prepared(tmp_path, limit=50).checks["verdicts"][-1]
    assert verdict["level"] == "info"
    assert verdict["title"] == "Only 100 of 1797 images are used"


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    search, test, checks = tmp_path / "search", tmp_path / "test", tmp_path / "checks.json"
    good = prepared(tmp_path, limit=50)
    good.write(search, test, checks)
    before = tree(tmp_path)
    bad = Prepared(good.search, good.test, {"not": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        bad.write(search, test, checks)
    assert tree(tmp_path) == before


def test_mnist_keeps_its_official_test_images(shared_data: Path, tmp_path: Path) -> None:
    result = prepared(tmp_path, shared_data, name="mnist", limit=500)
    official = read_published(tmp_path / "raw", Data(name="mnist")).parts["test"]
    published = {image.tobytes() for image in official.images}
    assert all(image.tobytes() in published for image in result.test.images)
    assert not any(image.tobytes() in published for image in result.search.train.images)
    assert result.search.info.counts["test"] == (49, 57, 52, 50, 49, 45, 48, 51, 49, 50)
    picture = base64.b64decode(result.checks["examples"]["0"][0])
    assert picture.startswith(b"\x89PNG")


def test_photographs_of_one_image_a_class_cannot_be_split(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^class 0 has 1 training image, but a split needs at least 3 of each class"):
        prepared(tmp_path, name="image_folder", path=str(shared_data / "phone_digits"))


def test_the_raw_folder_of_another_data_set_is_refused(tmp_path: Path) -> None:
    prepared(tmp_path)
    with pytest.raises(DataError, match=r"raw holds digits, but data.name is mnist; run the download stage"):
        read_published(tmp_path / "raw", Data(name="mnist"))
    with pytest.raises(DataError, match=r"nowhere holds no data set; run the download stage"):
        read_published(tmp_path / "nowhere", Data())


@pytest.mark.parametrize(
    ("params", "status", "line"),
    [
        ("data:\n  nmae: mnist\n", 2, "error: data.nmae: no such key; did you mean data.name?\n"),
        ("data:\n  name: image_folder\n  path: nowhere\n", 1, "error: data.path: must be a folder"),
        ("data:\n  name: image_folder\n", 1, "error: data/images: at least 2 folders, one per class, are needed, got 0\n"),
    ],
)
def test_a_stage_ends_with_one_line_and_leaves_nothing(
    params: str, status: int, line: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "params.yaml").write_text(params)
    (workspace / "data" / "images").mkdir(parents=True)
    (workspace / "data" / "images" / "README.md").write_text("how to")
    with pytest.raises(SystemExit) as ended:
        download.main()
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(line)
    assert [path.name for path in (workspace / "data").iterdir()] == ["images"]


def test_the_mirror_variable_is_read_and_the_configuration_goes_before_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    monkeypatch.setenv("STUDYLINE_MIRROR", str(shared_data))
    (workspace / "params.yaml").write_text("data:\n  name: mnist\n")
    download.main()
    assert artifacts.read_json(artifacts.RAW / "source.json")["name"] == "mnist"
    monkeypatch.setenv("STUDYLINE_MIRROR", "/nowhere")
    for path in (workspace / ".cache" / "downloads" / "mnist").iterdir():
        path.unlink()
    (workspace / "params.yaml").write_text(f"data:\n  name: mnist\n  mirror: {shared_data}\n")
    download.main()


def test_a_stage_run_as_a_module_exits_without_a_traceback(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("data:\n  name: image_folder\n  path: in\n")
    for name in "ab":
        (workspace / "in" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(workspace / "in" / name / "1.png")
    (workspace / "in" / "a" / "notes.txt").write_text("words")
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""}
    command = [sys.executable, "-m", "pipeline.stages.download"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: in/a/notes.txt: not an image that can be read (none of PNG, ")
    assert line.endswith("); remove or replace it")
