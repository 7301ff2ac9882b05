"""One flipped bit, in every kind of file that a project writes and reads again: never accepted."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project

from pipeline import artifacts
from pipeline.artifacts import DamagedError
from pipeline.config import load
from pipeline.data.dataset import SearchData, open_test
from pipeline.data.sources import read_published
from pipeline.models import classifier
from pipeline.report.inputs import Inputs
from study.engine.arrays import arrays
from study.lineage.names import trace
from study.state import ledger
from study.stores.addresses import read_stores
from study.stores.supervisor import read_state

STAGES = "from pipeline.stages import download, preprocess, train, evaluate, report\n" + "\n".join(
    f"{stage}.main()" for stage in ("download", "preprocess", "train", "evaluate", "report")
)
FIRST = "weights_epoch1.safetensors"


def data(root: Path):
    return load(root / "params.yaml").data


def evaluated(root: Path) -> Inputs:
    return Inputs.read(
        *(root / path for path in (artifacts.RAW, artifacts.SEARCH, artifacts.CHECKS, artifacts.MODEL)),
        root / artifacts.EVALUATION,
    )


READERS = {  # files by pattern, and what reads them
    "data/raw/*": lambda root: read_published(root / artifacts.RAW, data(root)),
    "data/search/*": lambda root: SearchData.read(root / artifacts.SEARCH),
    "data/test/*": lambda root: open_test(root / artifacts.TEST, root / "log.jsonl", "f", "me"),
    "data/checks.json": evaluated,
    "models/current/*": evaluated,
    "models/current/weights.safetensors": lambda root: classifier.load(root / artifacts.MODEL),
    "models/current/weights_epoch1.safetensors": lambda root: classifier.load(root / artifacts.MODEL, FIRST),
    "reports/evaluation/**/*": evaluated,
    ".cache/data/*/search/*": lambda root: arrays(data(root), root, None),
    ".cache/data/*/test/*": lambda root: open_test(next((root / ".cache/data").glob("*/test")), root / "log.jsonl", "f", "me"),
    ".cache/data/*/raw/*": lambda root: read_published(next((root / ".cache/data").glob("*/raw")), data(root)),
    ".cache/data/*/checks.json": lambda root: artifacts.read_sealed(next((root / ".cache/data").glob("*/checks.json"))),
    ".cache/test_openings.jsonl": lambda root: open_test(root / artifacts.TEST, root / artifacts.TEST_OPENINGS, "f", "me"),
    "studies/mine/ledger.jsonl": lambda root: ledger.read(root / "studies/mine"),
    "studies/mine/stores.json": lambda root: read_stores(root / "studies/mine"),
    "studies/mine/state.json": lambda root: read_state(root / "studies/mine"),
    "studies/mine/mlflow.json": lambda root: trace("mine/0", root),
    "studies/mine/runs/*/*": lambda root: [classifier.load(folder) for folder in (root / "studies/mine/runs").iterdir()],
    "reports/studies/mine/**/*": lambda root: trace("mine#1", root),
}
NOT_READ = {  # files that nothing of ours believes, and why
    "params.yaml": "written by people",
    "space.yaml": "written by people",
    "log.jsonl": "of this test",
    "reports/index.html": "a page; DVC knows its digest",
    "reports/metrics.json": "for `dvc metrics`; DVC knows its digest",
    "*.db*": "a copy of the ledger: `study status --verify` compares them",
    "mlartifacts/**/*": "copies, kept by MLflow",
    "**/*.log": "for people",
    ".config/**/*": "of a library",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), evaluate={"tsne_images": 20, "gallery": 2})
    command = [sys.executable, "-c", STAGES]
    staged = subprocess.run(command, cwd=project.root, env=project.environ, capture_output=True, text=True)
    assert staged.returncode == 0, staged.stderr
    ended = project.run("--trials", "2", "--set", "train.epochs=1")
    assert ended.returncode == 0, ended.stderr
    return project


def files(root: Path, pattern: str) -> list[Path]:
    return [path for path in root.glob(pattern) if path.is_file()]


def test_every_file_of_a_project_is_checked_by_its_reader_or_read_by_none(project) -> None:
    known = {path for pattern in (*READERS, *NOT_READ) for path in files(project.root, pattern)}
    assert [path for path in files(project.root, "**/*") if path not in known] == []


@pytest.mark.parametrize("pattern", READERS)
def test_a_flipped_bit_is_refused_with_the_name_of_its_file(project, pattern, monkeypatch) -> None:
    monkeypatch.chdir(project.root)
    read, chance = READERS[pattern], random.Random(pattern)
    found = files(project.root, pattern)
    assert found
    for path in found:
        content = path.read_bytes()
        if not content:
            continue
        for _ in range(3):
            index = chance.randrange(len(content))
            path.write_bytes(content[:index] + bytes([content[index] ^ 1 << chance.randrange(8)]) + content[index + 1 :])
            with pytest.raises(DamagedError) as error:
                read(project.root)
            folder_list = path.name == artifacts.SUMS  # a damaged list makes one of its files look damaged
            assert folder_list or path.name in str(error.value), error.value
            assert len(str(error.value).splitlines()) == 1
        path.write_bytes(content)
    read(project.root)
