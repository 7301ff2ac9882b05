"""Studies written by hand: a ledger as a coordinator writes it, with the files of real trainings."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import lineage
from pipeline.config import DenseBlock, Model, Params, Study, Tracking, Train, to_tree
from pipeline.data.dataset import DatasetInfo, SearchData, Split
from pipeline.tracking import Store, locate
from pipeline.training.loop import Training
from study.state.ledger import STUDIES, Ledger
from study.state.spec import Spec
from study.stores.addresses import write_stores

DISTRIBUTION = '{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}'


@dataclass
class Script:
    """Plays the coordinator: every method appends events to the ledger of one study."""

    folder: Path
    ledger: Ledger
    data: Path
    search: SearchData
    params: Params
    trained: Path

    def create(self) -> None:
        spec = Spec(self.folder.name, "mlp", {"parameters": {}}, self.params, self.search.info.fingerprint)
        told = {"git_commit": "abc", "git_dirty": False, "data": str(self.data), "dataset": asdict(self.search.info)}
        self.ledger.append("created", spec=spec.to_tree(), lineage=told | {"command": "study run", "environment": {}})

    def open(self) -> None:
        study = to_tree(self.params)["study"]
        self.ledger.append(
            "opened", trials=3, study=study, workers=["cpu 0"], engine="local", pid=1, host="here", command="study run"
        )

    def ask(self, trial: int, *, seed: int | None = None) -> str:
        """A trial of the search, or of a finalist the training with this seed."""
        tree, key = to_tree(self.params), f"{trial}" if seed is None else f"{trial}.s{seed}"
        lr = 10.0 ** -(1 + trial % 4)
        config = {"model": tree["model"], "train": tree["train"] | {"lr": lr, "seed": seed or trial}}
        self.ledger.append(
            "asked",
            run=key,
            phase="search" if seed is None else "final",
            trial=trial,
            params={"train.lr": lr},
            distributions={"train.lr": DISTRIBUTION},
            config=config,
            group=lineage.digest([config["model"], lr]),
            replicate=seed or 0,
            seed=seed or trial,
            parameters=1203,
            multiply_adds=1180,
            origin="tpe" if seed is None else "finalist",
        )
        self.ledger.append("started", run=key, slot="cpu 0", epoch=0, until=self.params.train.epochs)
        return key

    def epochs(self, key: str, first: int, last: int) -> None:
        for number in range(first, last + 1):
            loss = 2 / number + int(key.split(".")[0]) / 1000
            told = {"train_loss": loss, "train_accuracy": 1 - 1 / (number + 1), "validation_loss": loss}
            accuracy = 1 - math.exp(-number / (2 + int(key.split(".")[0])))
            told |= {"validation_accuracy": accuracy, "lr": 0.1, "seconds": 0.5}
            self.ledger.append("epoch", run=key, epoch={"epoch": number, **told})

    def pause(self, key: str, epoch: int) -> None:
        self.ledger.append("paused", run=key, epoch=epoch, why=f"rung {epoch}")

    def end(self, key: str, state: str = "COMPLETE", value: float | None = None, **content: Any) -> None:
        """The end of a training, with its weights before it."""
        target = self.folder / "runs" / key
        if state != "FAIL" and not target.exists():
            target.mkdir(parents=True)
            for name in ("model.json", "weights.safetensors"):
                (target / name).hardlink_to(self.trained / name)
        told = {"cause": None, "reason": None, "kept_epoch": 2, "latency": None} | content
        self.ledger.append("ended", run=key, state=state, values=None if value is None else [value], **told)

    def whole(self, trial: int, epochs: int = 2, value: float | None = None, *, seed: int | None = None) -> None:
        """A training from beginning to end."""
        key = self.ask(trial, seed=seed)
        self.epochs(key, 1, epochs)
        self.end(key, value=0.5 + trial / 1000 if value is None else value)

    def close(self, outcome: str = "done", reason: str | None = None) -> None:
        self.ledger.append("closed", outcome=outcome, reason=reason)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, SearchData, Params]:
    """Folders of a small data set and of a network trained on it, and both sets of settings."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), np.arange(n) % 3)

    counts = {"train": (20, 20, 20), "validation": (10, 10, 10), "test": (10, 10, 10)}
    info = DatasetInfo("noise", ("a", "b", "c"), (1, 8, 8), (0.5,), (0.3,), "0" * 32, 0, counts)
    search = SearchData(info, split(60), split(30))
    root = tmp_path_factory.mktemp("trained")
    params = Params(model=Model(dense=(DenseBlock(out=8),)), train=Train(epochs=2, batch_size=50), study=Study(trials=3))
    training = Training(params.model, params.train, search, torch.device("cpu"))
    training.run_epoch()
    search.write(root / "data")
    training.finish().save(root / "model")
    return root / "data", root / "model", search, params


Play = Callable[..., AbstractContextManager[Script]]


@pytest.fixture(scope="session")
def written_in(trained: tuple[Path, Path, SearchData, Params]) -> Callable[[Path], Play]:
    """For a project's root what opens ledgers of studies in it; the end of the ``with`` is the coordinator's."""
    data, model, search, params = trained

    def at(root: Path) -> Play:
        @contextmanager
        def play(name: str = "night", root: Path = root, **sections: Any) -> Iterator[Script]:
            folder = root / STUDIES / name
            with Ledger.open(folder) as ledger:
                yield Script(folder, ledger, data, search, replace(params, **sections), model)

        return play

    return at


@pytest.fixture
def script(tmp_path: Path, written_in: Callable[[Path], Play]) -> Play:
    return written_in(tmp_path)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the empty databases of MLflow and Optuna, which take seconds to make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow, on its way in, uses what SQLAlchemy 2.1 deprecates
        from pipeline.tracking.client import connect as connect_mlflow
        from study.stores.optuna_database import connect as connect_optuna
    folder = tmp_path_factory.mktemp("databases")
    connect_mlflow(f"sqlite:///{folder}/mlflow.db", folder.as_uri(), "Default")
    connect_optuna(f"sqlite:///{folder}/study.db").engine.dispose()
    return folder


@dataclass(frozen=True)
class Stores:
    """Where a test's studies are recorded."""

    mlflow: Store
    optuna: str

    def of(self, folder: Path) -> Path:
        """Tell a study in ``folder`` of them."""
        write_stores(folder, self.mlflow, self.optuna)
        return folder


@pytest.fixture(scope="session")
def stored_in(databases: Path) -> Callable[[Path], Stores]:
    """Empty stores in a project's root."""

    def at(root: Path) -> Stores:
        for name in ("mlflow.db", "study.db"):
            shutil.copyfile(databases / name, root / name)
        return Stores(locate(Tracking(), {"DVC_ROOT": str(root)}), f"sqlite:///{root}/study.db")

    return at


@pytest.fixture
def stores(tmp_path: Path, stored_in: Callable[[Path], Stores]) -> Stores:
    return stored_in(tmp_path)


KILLER = """
import os, sys
from pathlib import Path
import sqlalchemy, sqlalchemy.event
from study.stores.process import serve

def after(statements):
    left = [statements]
    def count(*_):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), 9)
    return count

print("ready", flush=True)
for line in sys.stdin:
    statements, folder = line.rstrip("\\n").split(" ", 1)
    child = os.fork()
    if not child:
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", after(int(statements)))
        os._exit(serve(Path(folder), wait=False))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def killer() -> Iterator[Callable[[Path, int], int]]:
    """Starts a recorder of a study that kills itself before its n-th statement to a database; how it ended.

    The process that starts them has imported everything, so that each takes no time.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", KILLER], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"

        def kill(folder: Path, statements: int) -> int:
            process.stdin.write(f"{statements} {folder}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield kill
        process.kill()


@pytest.fixture
def closed_port() -> int:
    """Of this machine, where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgreSQL:
    """A server of our own on a port of this machine, its data in a folder; it can go away and come back."""

    def __init__(self, folder: Path, programs: Path, port: int) -> None:
        self.folder, self._programs, self.port = folder, programs, port
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "-D", folder / "data", "-A", "trust", "-U", "studyline", "-E", "UTF8", "--no-sync", "--no-locale")
        self.start()

    def url(self, database: str) -> str:
        """The URL of a database, made if missing."""
        import psycopg

        with psycopg.connect(f"postgresql://studyline@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[call-overload]
        return f"postgresql://studyline:secret@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        """As at the end of a day's work, or of the machine: nobody's connection is waited for."""
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str | Path) -> None:
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*user, str(self._programs / program), *map(str, arguments)]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A running server; the test skips where PostgreSQL or psycopg is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'studyline[postgresql]'")
    installed = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    places = [*installed, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    programs = next((place for place in places if (place / "initdb").exists()), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the PATH or in /usr/lib/postgresql")
    with tempfile.TemporaryDirectory(prefix="studyline-") as name:  # pytest's own folders are closed to other users
        Path(name).chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        server = PostgreSQL(Path(name), programs, port)
        yield server
        server.stop()
