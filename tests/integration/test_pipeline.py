"""The whole pipeline under DVC and MLflow, as a user runs it, on a small part of the digits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow, on its way in, uses what SQLAlchemy 2.1 deprecates
    from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STAGES = ["download", "preprocess", "train", "evaluate", "report"]
SMALL = {
    "data": {"limit": 200},
    "model": {"conv": [{"out": 4, "kernel": 5, "pool": {"kernel": 4}}]},
    "train": {"epochs": 3, "lr": 0.01},
    "evaluate": {"tsne_images": 50, "gallery": 4},
}


class Project:
    """A checkout with the settings of ``SMALL``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, "mlflow.db"
        names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for name in names:
            if name.startswith(("pipeline/", "data/", ".dvc")) or name in ("dvc.yaml", "params.yaml", ".gitignore"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        kept_out = ("MLFLOW_TRACKING_URI", "STUDYLINE_MIRROR", "DVC_ROOT", "DVC_STAGE", "PYTEST_CURRENT_TEST")
        self.environ = {name: value for name, value in os.environ.items() if name not in kept_out}
        self.environ |= {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "true"}
        self.change(SMALL)
        self.commit("start")

    def commit(self, message: str) -> None:
        self.run("git", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", message)

    def change(self, changes: dict) -> None:
        """Edit params.yaml as a person does, comments kept."""
        yaml, path = YAML(), self.folder / "params.yaml"
        tree = yaml.load(path)
        for section, keys in changes.items():
            tree[section].update(keys)
        yaml.dump(tree, path)

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, *command: str, fails: bool = False) -> str:
        process = self.start(*command)
        text, _ = process.communicate()
        assert (process.returncode != 0) == fails, text
        return text

    def repro(self, *arguments: str) -> list[str]:
        """The stages that ran."""
        text = self.run("dvc", "repro", *arguments)
        return [stage for stage in STAGES if f"Running stage '{stage}'" in text]

    def json(self, name: str):
        return json.loads((self.folder / name).read_text())

    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "models/current/history.csv").drop(columns="seconds")

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder / self.database}")

    def runs(self):
        return self.mlflow.search_runs(["1"], order_by=["attributes.start_time"])


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Run once to the end; the tests of this module go on from one another, in order."""
    project = Project(tmp_path_factory.mktemp("project"))
    assert project.repro() == STAGES
    return project


def test_a_fresh_checkout_ends_with_report_metrics_and_one_tracked_run(project):
    assert "<h1" in (project.folder / "reports/index.html").read_text()
    metrics, run = project.json("reports/metrics.json"), project.json("models/current/run.json")
    assert 0.3 < metrics["test_accuracy"] <= 1
    (tracked,) = project.runs()
    assert tracked.info.run_id == run["run_id"] == project.json("reports/evaluation/tracked.json")["run_id"]
    assert tracked.info.status == "FINISHED"
    assert tracked.data.metrics["test/accuracy"] == pytest.approx(metrics["test_accuracy"])
    assert tracked.data.params["train.lr"] == "0.01"
    assert tracked.data.tags["data_fingerprint"] == project.json("data/search/dataset.json")["fingerprint"]
    assert tracked.data.tags["git_commit"] == project.run("git", "rev-parse", "HEAD").strip()
    assert tracked.data.tags["git_dirty"] == "false"
    points = project.mlflow.get_metric_history(run["run_id"], "validation/loss")
    assert [point.value for point in points] == pytest.approx(list(project.history()["validation_loss"]))
    artifacts = {
        item.path for folder in ("figures", "evaluation") for item in project.mlflow.list_artifacts(run["run_id"], folder)
    }
    assert {"figures/confusion.png", "figures/roc.png", "evaluation/metrics.json"} <= artifacts


def test_run_again_nothing_is_done_again(project):
    assert project.repro() == []
    assert "up to date" in project.run("dvc", "status")
    assert len(project.runs()) == 1


def test_a_changed_learning_rate_trains_again_and_prepares_nothing(project):
    project.run("git", "add", "-A")
    project.commit("baseline")
    project.change({"train": {"lr": 0.02}})
    assert project.repro() == ["train", "evaluate", "report"]
    assert len(project.runs()) == 2
    difference = project.run("dvc", "metrics", "diff")
    assert "log_loss" in difference
    assert "0.02" in project.run("dvc", "params", "diff")
    plots = json.loads(project.run("dvc", "plots", "show", "--json").partition("\n{")[0])
    assert {"loss", "accuracy", "confusion"} <= plots["data"].keys()


def test_a_changed_gallery_only_evaluates_again_and_adds_to_the_same_run(project):
    before = project.json("models/current/run.json")["run_id"]
    project.change({"evaluate": {"gallery": 6}})
    assert project.repro() == ["evaluate", "report"]
    assert project.json("reports/evaluation/tracked.json")["run_id"] == before
    assert len(project.runs()) == 2
    assert project.json("reports/evaluation/metrics.json")["test_openings"] == 3


def test_where_dvc_restores_the_model_and_the_store_is_new_the_evaluation_makes_the_run_whole(project):
    trained = project.json("models/current/run.json")["run_id"]
    shutil.rmtree(project.folder / "models/current")
    project.database = "other.db"
    project.change({"evaluate": {"gallery": 8}, "tracking": {"uri": "sqlite:///other.db"}})
    assert project.repro() == ["evaluate", "report"]  # train comes from the cache
    (run,) = project.runs()
    assert run.data.tags["restored_from"] == trained
    assert run.info.run_id == project.json("reports/evaluation/tracked.json")["run_id"]
    assert f"runs/{run.info.run_id}" in (project.folder / "reports/index.html").read_text()
    assert len(project.mlflow.get_metric_history(run.info.run_id, "validation/loss")) == 3
    assert {"test/accuracy", "train/loss"} <= run.data.metrics.keys()


def test_a_training_killed_under_dvc_is_continued_and_ends_like_one_never_interrupted(project):
    project.change({"train": {"epochs": 40, "seed": 5}})
    process = project.start("dvc", "repro", "train")
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:1] == ["6"]:
            break
    children = subprocess.run(["pgrep", "-f", "pipeline.stages.train"], capture_output=True, text=True).stdout.split()
    (child,) = (pid for pid in children if Path(f"/proc/{pid}/cwd").readlink() == project.folder and not is_shell(pid))
    os.kill(int(child), signal.SIGKILL)
    process.communicate()
    assert process.returncode != 0
    text = project.run("dvc", "repro")
    assert "continuing after epoch" in text
    continued = project.history()
    assert len(continued) == 40
    run_id = project.json("models/current/run.json")["run_id"]
    points = project.mlflow.get_metric_history(run_id, "train/loss")
    assert [point.step for point in points] == list(range(1, 41))
    assert project.mlflow.get_run(run_id).info.status == "FINISHED"
    assert project.repro("--force", "--single-item", "train") == ["train"]
    pd.testing.assert_frame_equal(project.history(), continued, check_exact=True)
    assert not list((project.folder / ".cache/checkpoints").glob("*"))


def is_shell(pid: str) -> bool:
    return "python" not in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]


def test_a_diverging_training_ends_with_a_verdict_in_the_report_and_a_failed_run(project):
    project.change({"train": {"epochs": 3, "lr": 1e30, "optimizer": "sgd"}})
    assert project.repro() == ["train", "evaluate", "report"]
    verdicts = project.json("reports/evaluation/verdicts.json")
    assert any(verdict["level"] == "bad" and verdict["title"] == "Training diverged" for verdict in verdicts)
    assert "Training diverged" in (project.folder / "reports/index.html").read_text()
    assert project.runs()[-1].info.status == "FAILED"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"lrr": 1}}, "error: train.lrr: no such key; did you mean train.lr?"),
        ({"model": {"conv": [{"out": 4, "kernel": 40, "padding": 0}]}}, "error: conv1: 40×40 kernel does not fit a 28×28 input"),
        ({"train": {"device": "cuda"}}, "error: train.device: cuda needs a GPU that PyTorch can see, and there is none"),
        (
            {"tracking": {"uri": "http://127.0.0.1:9"}, "train": {"seed": 77}},
            "error: MLflow at http://127.0.0.1:9 cannot be reached",
        ),
    ],
    ids=["unknown key", "impossible architecture", "no GPU", "no server"],
)
def test_what_cannot_work_ends_with_one_line_and_loses_nothing(project, changes, message):
    import torch

    if "device" in changes.get("train", {}) and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    params = (project.folder / "params.yaml").read_text()
    try:
        project.change(changes)
        text = project.run("dvc", "repro", fails=True)
    finally:
        (project.folder / "params.yaml").write_text(params)
    assert message in text
    assert "Traceback" not in text
    assert project.repro() in ([], ["evaluate", "report"])  # as before; DVC brings back what the failed stage had removed
