"""Whoever looks at studies changes nothing: no row of a database, no file but the page that was asked for."""

import os
import signal
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from projects import CLI, Project

from pipeline import artifacts
from study.cli.main import main

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow, on its way in, uses what SQLAlchemy 2.1 deprecates
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A finished study, in whose best run another writer is recording a model, and of which somebody has deleted one."""
    project = Project(tmp_path_factory.mktemp("project"), study={"finalists": {"top": 1, "seeds": 2}})
    ended = project.run("--trials", "3")
    assert ended.returncode == 0, ended.stderr
    ids = artifacts.read_sealed(project.folder / "mlflow.json")
    client = MlflowClient(f"sqlite:///{project.root}/mlflow.db")
    for run_id in ids["runs"].values():
        for name in ("pending", "gone"):
            model = client.create_logged_model(ids["experiment_id"], name=name, source_run_id=run_id)
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=1)])
            if name == "gone":
                client.delete_logged_model(model.model_id)
    return project


def content(root: Path) -> dict[str, object]:
    """Every file below a folder by its content, a database by its rows; SQLite's own files beside it are no content."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".db":
            with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as connection:
                found[name] = list(connection.iterdump())
            connection.close()
        elif path.is_file() and not name.endswith((".db-wal", ".db-shm")):
            found[name] = (path.read_bytes(), path.stat().st_mtime_ns)
        elif path.is_dir():
            found[name] = None
    return found


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        (["list"], None),
        (["status", "mine"], None),
        (["status", "mine", "--verify"], None),
        (["show", "mine", "--trial", "0"], None),
        (["best", "mine"], None),
        (["trace", "mine"], None),
        (["trace", "mine/0"], None),
        (["reproduce", "--list"], None),
        (["ablate", "--list"], None),
        (["report", "mine"], "reports/studies/mine"),
        (["compare", "mine/0", "mine/1"], "reports/comparisons"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_reads_writes_nothing_but_its_page(project, arguments, page, monkeypatch, capsys) -> None:
    before = content(project.root)
    monkeypatch.chdir(project.root)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0, capsys.readouterr()
    if "--verify" in arguments:
        assert capsys.readouterr().out == "ledger, Optuna and MLflow agree\n"
    after = content(project.root)
    written = {name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0)}
    assert {name for name in written if page is None or not (name.startswith(page) or page.startswith(name))} == set()


def test_looking_where_nothing_was_recorded_makes_no_store(project, tmp_path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/mine").symlink_to(project.folder)
    for name in ("params.yaml", "space.yaml"):
        (tmp_path / name).write_text((project.root / name).read_text())
    empty = Project(tmp_path)
    stores = artifacts.read_sealed(project.folder / "stores.json")
    stores = {"storage": f"sqlite:///{tmp_path}/none.db", "store": {**stores["store"], "uri": f"sqlite:///{tmp_path}/no.db"}}
    kept = (project.folder / "stores.json").read_bytes()
    artifacts.write_sealed(project.folder / "stores.json", stores, private=True)
    before = content(tmp_path)
    verified = empty.study("status", "mine", "--verify")
    (project.folder / "stores.json").write_bytes(kept)
    assert verified.returncode == 1
    assert sorted(verified.stdout.splitlines()) == [
        f"MLflow: there is no experiment studyline in sqlite:///{tmp_path}/no.db",
        "Optuna: there is no study mine",
    ]
    assert content(tmp_path) == before


def test_browsing_writes_nothing(project) -> None:
    before = content(project.root)
    command = [sys.executable, "-u", "-c", CLI, "ui", "--port", "5600"]
    with subprocess.Popen(command, cwd=project.root, env=project.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    after = content(project.root)
    logs = {name for name in after.keys() - before.keys() if name.startswith(".cache/") and name.endswith("-server.log")}
    assert {name for name in after if after[name] != before.get(name, 0)} == logs
    assert before.keys() <= after.keys()
