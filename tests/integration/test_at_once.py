"""Everything that a project can do, begun at once in a fresh checkout: all of it ends well, and nothing temporary is left."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from histories import finished
from projects import CLI
from ruamel.yaml import YAML

from pipeline import line_log
from study.state.ledger import NAME, STUDIES

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "data": {"limit": 300},
    "model": {"dense": [{"out": 16}]},
    "train": {"epochs": 1, "batch_size": 64},
    "evaluate": {"tsne_images": 20, "gallery": 2},
    "study": {"trials": 2, "pruner": "none", "finalists": {"top": 0}, "workers": 1},
}
SPACE = {"description": "one width", "parameters": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}}}
ABLATION = {
    "description": "two rates",
    "base": {"params": "params.yaml"},
    "seeds": 2,
    "factors": {"train.lr": {"values": [0.0001, 0.01]}},
}
STUDIED = [f"night{suffix}" for suffix in ("", "-b", "-b-c", ".new", "-old", "_2")]  # names that begin alike
REPORTED = ["s", "s-b", "s-b-c"]
TEMPORARY = re.compile(r"\..*\.(lock|new|old)(\..*)?")


@pytest.fixture
def checkout(tmp_path) -> Path:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name.startswith(("pipeline/", "study/", "data/", ".dvc")) or name in ("dvc.yaml", "params.yaml", ".gitignore"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    yaml, params = YAML(), tmp_path / "params.yaml"
    tree = yaml.load(params)
    for section, values in SETTINGS.items():
        tree[section].update(values)
    tree["study"]["space"] = "space.yaml"
    yaml.dump(tree, params)
    yaml.dump(SPACE, tmp_path / "space.yaml")
    for name in ("ablation-a", "ablation-b"):
        yaml.dump(ABLATION, tmp_path / f"{name}.yaml")
    for name in REPORTED:
        events = finished(space="small", trials=6).ledger
        events[0]["spec"]["name"] = name
        with line_log.opened(tmp_path / STUDIES / name / NAME) as log:
            for event in events:
                log.append(event)
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_six_studies_two_ablations_three_reports_and_dvc_repro_at_once(checkout) -> None:
    kept_out = ("MLFLOW_TRACKING_URI", "STUDYLINE_MIRROR", "STUDYLINE_STORAGE", "DVC_ROOT", "DVC_STAGE")
    environ = {name: value for name, value in os.environ.items() if name not in kept_out}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(checkout)}
    environ |= {"DVC_NO_ANALYTICS": "true"}
    study = [sys.executable, "-c", CLI]
    commands = {
        **{name: [*study, "run", "--name", name] for name in STUDIED},
        **{name: [*study, "ablate", f"{name}.yaml"] for name in ("ablation-a", "ablation-b")},
        **{name: [*study, "report", name] for name in REPORTED},
        "repro": ["dvc", "repro"],
    }
    logs = {name: checkout.with_name(f"{name}.log") for name in commands}
    processes = {}
    for name, command in commands.items():
        with logs[name].open("wb") as log:
            processes[name] = subprocess.Popen(command, cwd=checkout, env=environ, stdout=log, stderr=log)
    codes = {name: process.wait(900) for name, process in processes.items()}
    failed = "\n".join(f"{name}: {logs[name].read_text()[-1500:]}" for name, code in codes.items() if code)
    assert not failed, failed

    for name in REPORTED + STUDIED:
        page = (checkout / "reports/studies" / name / "index.html").read_text()
        assert f"study {name}<" in page or f"<title>{name}" in page, f"another page in place of that of {name}"
    for name in [*STUDIED, "ablate-ablation-a", "ablate-ablation-b"]:
        verified = subprocess.run([*study, "status", name, "--verify"], cwd=checkout, env=environ, capture_output=True, text=True)
        assert (verified.returncode, verified.stdout) == (0, "ledger, Optuna and MLflow agree\n"), verified
    assert "test accuracy" in logs["repro"].read_text()
    left = [path for path in checkout.rglob("*") if TEMPORARY.fullmatch(path.name) and ".git" not in path.parts]
    assert left == []
    copies = [path.name for path in (checkout / ".cache/data").iterdir()]
    assert len(copies) == 1, "all worked on one copy of the data"
