"""What MLflow serves of a run: the model, where nothing of this project can be imported."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests
import torch
from ruamel.yaml import YAML

from pipeline.config import ConvBlock, Model, Pool, Tracking
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier
from pipeline.tracking import locate, start

MODEL = Model(conv=(ConvBlock(out=4, pool=Pool(), batch_norm=True, dropout=0.5),))


@contextmanager
def served(uri: str, root: Path) -> Iterator[str]:
    """The address of ``mlflow models serve`` for a model, in an interpreter that refuses to import this project."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / "sitecustomize.py").write_text("import sys\nsys.modules['pipeline'] = sys.modules['study'] = None\n")
    bin_folder = Path(sys.executable).parent
    environ = {**os.environ, "PYTHONPATH": str(root), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [bin_folder / "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port), "-w", "1"]
    with (root / "serve.log").open("wb") as log:
        server = subprocess.Popen(command, env=environ, cwd=root, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}/ping"):
            assert server.poll() is None, (root / "serve.log").read_text()
            assert time.monotonic() < deadline, (root / "serve.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        time.sleep(0.2)
        return False


def test_mlflow_serves_the_probabilities_that_the_classifier_gives(tmp_path: Path) -> None:
    card = Card(MODEL, (1, 8, 8), ("cat", "dog", "eel"), (0.1,), (0.3,))
    classifier = Classifier(card, build(MODEL, (1, 8, 8), 3, seed=0)).eval()
    classifier.save(tmp_path / "model")
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), dtype=np.uint8)
    store = locate(Tracking(), {"DVC_ROOT": str(tmp_path)})
    with start(store, key="k", name="n", params={}, tags={}) as run:
        run.log_model(tmp_path / "model", images, epoch=1)
    uri = run.finish().model_uri
    assert uri is not None

    with served(uri, tmp_path) as address:
        answers = {
            n: requests.post(f"{address}/invocations", json={"inputs": images[:n].tolist()}, timeout=60).json() for n in (1, 2, 7)
        }
    with torch.no_grad():
        probs = classifier(torch.from_numpy(images)).numpy()
    for n, answer in answers.items():
        np.testing.assert_allclose(answer["predictions"], probs[:n], rtol=1e-5)

    (described,) = tmp_path.glob("mlartifacts/studyline/models/*/artifacts/MLmodel")
    assert YAML(typ="safe").load(described)["metadata"]["classes"] == ["cat", "dog", "eel"]
    requirements = described.with_name("requirements.txt").read_text().split()
    assert f"torch=={torch.__version__.split('+')[0]}" in requirements
    assert all("==" in line for line in requirements)
