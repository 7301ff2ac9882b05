"""Runs in real MLflow stores, with processes that are really killed and servers that really go away."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline import ui
from pipeline.config import ConvBlock, Model, Pool, Tracking
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier
from pipeline.tracking import Dataset, Run, Store, TrackingError, adopt, locate, start
from pipeline.tracking.child import CALM
from pipeline.tracking.run import AWAY, SENT
from pipeline.tracking.spool import Spool, waiting

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow, on its way in, uses what SQLAlchemy 2.1 deprecates
    import mlflow
    from mlflow.entities import Run as MlflowRun

    from pipeline.tracking.sink import Sink
    from pipeline.tracking.writer import send_left_over

MODEL = Model(conv=(ConvBlock(out=3, pool=Pool()),))
EXAMPLE = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def await_end(child: int) -> None:
    """Wait for a child process, and leave its status to whoever started it."""
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def store_in(root: Path, **section: object) -> Store:
    return locate(Tracking(**section), {"DVC_ROOT": str(root)})  # type: ignore[arg-type]


def open_run(store: Store, key: str = "key") -> Run:
    return start(store, key=key, name="a run", params={"train": {"lr": 0.1}}, tags={"seed": "0"})


def runs_in(store: Store) -> list[MlflowRun]:
    client = mlflow.MlflowClient(store.uri)
    experiment = client.get_experiment_by_name(store.experiment)
    assert experiment is not None
    return [client.get_run(run.info.run_id) for run in client.search_runs([experiment.experiment_id])]


def history(store: Store, run: MlflowRun, name: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in mlflow.MlflowClient(store.uri).get_metric_history(run.info.run_id, name))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the train stage leaves behind, three epochs of it."""
    folder = tmp_path_factory.mktemp("model")
    card = Card(MODEL, (1, 8, 8), ("a", "b"), (0.1,), (0.3,))
    Classifier(card, build(MODEL, (1, 8, 8), 2, seed=0)).save(folder)
    rows = [f"{epoch},{1 / epoch},0.5,{2 / epoch},0.5,0.1,2.0" for epoch in (1, 2, 3)]
    head = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,lr,seconds"
    (folder / "history.csv").write_text("\n".join([head, *rows, ""]))
    told = {
        "run_id": "0" * 32,
        "key": "elsewhere",
        "name": "mnist conv 3",
        "started": "2026-01-02T03:04:05+00:00",
        "kept_epoch": 3,
        "params": {"data": {}, "model": {}, "train": {"lr": 0.1}, "study": {"trials": 1}},
        "config_hash": "c0ffee",
        "git_dirty": False,
    }
    (folder / "run.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> tuple[Store, MlflowRun]:
    """A run that used everything, and then its evaluation."""
    root = tmp_path_factory.mktemp("project")
    store = store_in(root)
    params = {"train": {"lr": 0.1, "note": "x" * 9000}, "model": {f"p{n}": n for n in range(150)}}
    inputs = [Dataset("mnist", context, "f" * 32, "data/search", (9, 1, 8, 8), 2) for context in ("training", "validation")]
    with start(store, key="k", name="mnist cnn", params=params, tags={"git_commit": "abc"}, inputs=inputs) as run:  # type: ignore[arg-type]
        for epoch, loss in ((1, 1.0), (2, math.nan), (3, math.inf)):
            run.log_epoch(epoch, {"train/loss": loss, "validation/loss": loss})
        run.log_artifacts(model_folder / "history.csv", "files")
        run.log_model(model_folder, EXAMPLE, epoch=1)
        run.describe("**97 %**")
    recorded = run.finish()
    description = json.loads((model_folder / "run.json").read_text())
    copy = root / "model"
    copy.mkdir()
    for path in model_folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "run.json").write_text(json.dumps({**description, "run_id": recorded.run_id, "key": "k"}))
    with adopt(store, copy, example=EXAMPLE) as evaluation:
        evaluation.log_metrics({"test/accuracy": 0.97})
    assert evaluation.finish().run_id == recorded.run_id
    assert evaluation.finish().model_uri == recorded.model_uri
    (recorded_run,) = runs_in(store)
    return store, recorded_run


def test_a_run_holds_its_parameters_however_many_and_however_long(told) -> None:
    params = told[1].data.params
    assert len(params) == 152
    assert params["train.lr"] == "0.1"
    assert len(params["train.note"]) == 6000


def test_a_metric_that_is_no_number_keeps_its_place_in_the_history(told) -> None:
    store, run = told
    (first, second, third) = history(store, run, "train/loss")
    assert first == (1, 1.0)
    assert math.isnan(second[1])
    assert math.isnan(third[1])


def test_a_run_ends_finished_and_names_its_lineage_and_description(told) -> None:
    run = told[1]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mnist cnn"
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.data.tags["mlflow.note.content"] == "**97 %**"


def test_every_split_is_an_input_with_the_digest_of_the_data(told) -> None:
    inputs = told[1].inputs.dataset_inputs
    assert {(item.tags[0].value, item.dataset.digest) for item in inputs} == {("training", "f" * 32), ("validation", "f" * 32)}


def test_files_and_model_lie_in_the_folder_of_the_experiment(told) -> None:
    store, run = told
    artifacts = store.root / "mlartifacts" / "studyline"
    assert (artifacts / run.info.run_id / "artifacts" / "files" / "history.csv").is_file()
    assert len(list(artifacts.glob("models/*/artifacts/MLmodel"))) == 1


def test_the_evaluation_adds_to_the_run_and_to_its_model(told) -> None:
    store, run = told
    assert run.data.metrics["test/accuracy"] == 0.97
    (output,) = run.outputs.model_outputs
    metrics = mlflow.MlflowClient(store.uri).get_logged_model(output.model_id).metrics
    assert {metric.key for metric in metrics} == {"test/accuracy", "train/loss", "validation/loss"}


def test_nothing_waits_any_more_when_all_is_sent(told) -> None:
    assert waiting(told[0].root) == []


TRAINER = """
import sys, time
from pipeline.config import Tracking
from pipeline.tracking import locate, start
store = locate(Tracking(), {"DVC_ROOT": sys.argv[1]})
run = start(store, key="key", name="a run", params={"train": {"lr": 0.1}}, tags={"seed": "0"})
for epoch in (1, 2, 3):
    run.log_epoch(epoch, {"train/loss": 1 / epoch})
print("logged", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has logged three epochs, and waits."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", TRAINER, str(tmp_path)], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "logged\n"
        yield process
        process.kill()


def test_a_killed_training_started_again_goes_on_with_its_run_and_doubles_nothing(tmp_path, trainer) -> None:
    trainer.kill()
    trainer.wait()
    store = store_in(tmp_path)
    with open_run(store) as run:
        for epoch in range(1, 6):  # as after a kill between the last record and the checkpoint
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
    (found,) = runs_in(store)
    assert found.info.status == "FINISHED"
    assert history(store, found, "train/loss") == [(epoch, 1 / epoch) for epoch in range(1, 6)]


def test_what_a_killed_training_left_is_sent_later_and_its_run_is_killed(tmp_path, trainer, capsys) -> None:
    (writer,) = psutil.Process(trainer.pid).children()
    writer.kill()
    until(lambda: writer.status() == psutil.STATUS_ZOMBIE)
    trainer.kill()
    trainer.wait()
    assert send_left_over(tmp_path) == 0
    assert capsys.readouterr().out == "key: sent\n"
    store = store_in(tmp_path)
    (found,) = runs_in(store)
    assert found.info.status == "KILLED"
    assert len(history(store, found, "train/loss")) == 3
    assert waiting(tmp_path) == []


def test_a_killed_writer_is_replaced_and_nothing_is_lost_or_doubled(tmp_path) -> None:
    store = store_in(tmp_path)
    state = Spool.of(tmp_path, "key").read_state
    with open_run(store) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        until(lambda: state().run_id)
        (writer,) = psutil.Process().children()
        writer.kill()
        await_end(writer.pid)
        run.log_epoch(2, {"train/loss": 0.5})
    (found,) = runs_in(store)
    assert found.info.status == "FINISHED"
    assert history(store, found, "train/loss") == [(1, 1.0), (2, 0.5)]


def test_two_first_runs_at_once_make_one_database_and_both_are_in_it(tmp_path) -> None:
    store = store_in(tmp_path)
    with open_run(store, "one"), open_run(store, "two"):
        pass
    assert [run.info.status for run in runs_in(store)] == ["FINISHED", "FINISHED"]


def test_two_processes_cannot_record_one_training(tmp_path, trainer) -> None:
    with pytest.raises(TrackingError, match="another process is recording the run key; wait for it, or end it"):
        open_run(store_in(tmp_path))


def test_a_model_whose_run_is_not_in_the_store_gets_a_run_made_whole_from_its_files(tmp_path, model_folder) -> None:
    store = store_in(tmp_path)
    for accuracy in (0.9, 0.9):  # an evaluation done twice makes no second run
        with adopt(store, model_folder, example=EXAMPLE) as run:
            run.log_metrics({"test/accuracy": accuracy})
    (found,) = runs_in(store)
    assert found.info.run_name == "mnist conv 3"
    assert found.info.start_time == 1767323045000
    assert found.data.params == {"train.lr": "0.1"}
    assert found.data.tags["restored_from"] == "0" * 32
    assert found.data.tags["git_dirty"] == "false"
    assert history(store, found, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert found.data.metrics["test/accuracy"] == 0.9
    assert found.info.status == "FINISHED"
    assert len(found.outputs.model_outputs) == 1


def test_a_store_that_refuses_the_run_stops_a_training_that_requires_it(tmp_path) -> None:
    store = store_in(tmp_path)
    with open_run(store):
        pass
    client = mlflow.MlflowClient(store.uri)
    client.delete_experiment(runs_in(store)[0].info.experiment_id)
    run = open_run(store, "other")
    await_end(psutil.Process().children()[0].pid)
    with pytest.raises(TrackingError, match=r"experiment studyline was deleted; choose another tracking\.experiment"):
        run.log_epoch(1, {"train/loss": 1.0})
    assert run.finish().run_id is None
    short = open_run(store, "short")  # over before its writer has looked at the store
    with pytest.raises(TrackingError, match=r"experiment studyline was deleted.*the unsent records are kept in"):
        short.finish()
    assert short.finish().run_id is None


def leave(store: Store, key: str, *records: Mapping[str, object], **opening: object) -> Spool:
    """A queue as a run leaves it that was killed with its writer; time, in ms, is the number of the record."""
    spool = Spool.of(store.root, key)
    where = {"uri": store.uri, "artifacts": store.artifacts, "experiment": store.experiment}
    about = {"id": key, "mode": "start", "name": key, "params": {}, "tags": {"studyline.key": "same"}, "inputs": []}
    with spool.append_to() as log:
        for time, record in enumerate([{"kind": "open", **where, **about, **opening}, *records], 1):
            log.append({"time": time, **record}, allow_nan=True)
    return spool


FINISH = {"kind": "finish", "status": "FINISHED"}


def test_queues_without_records_go_and_a_broken_one_keeps_no_other_back(tmp_path, capsys) -> None:
    store = store_in(tmp_path)
    for key, content in (("a", b""), ("b", b'{"kind": "op'), ("c", b"nonsense\n")):
        Spool.of(tmp_path, key).folder.mkdir(parents=True)
        Spool.of(tmp_path, key).records.write_bytes(content)
    leave(store, "d", FINISH)
    assert send_left_over(tmp_path) == 1
    a, b, c, d = sorted(capsys.readouterr().out.splitlines())
    assert (a, b, d) == ("a: sent", "b: sent", "d: sent")
    assert "records.jsonl is damaged: record 1 (nonsense…)" in c
    assert waiting(tmp_path) == [Spool.of(tmp_path, "c")]


def test_a_writer_sends_its_own_queue_before_what_others_left(tmp_path) -> None:
    store = store_in(tmp_path)
    with Spool.of(tmp_path, "killed-before-its-first-word").append_to():
        pass
    leave(store, "old", FINISH, experiment="second")
    own = leave(store, "own", FINISH, experiment="first")
    command = [sys.executable, "-m", "pipeline.tracking", str(own.folder)]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, env={**os.environ, **CALM}).returncode == SENT
    client = mlflow.MlflowClient(store.uri)
    made = [client.get_experiment_by_name(name) for name in ("first", "second")]
    first, second = (int(experiment.experiment_id) for experiment in made if experiment is not None)
    assert first < second
    assert waiting(tmp_path) == [own]  # which its run deletes


def test_a_store_that_does_not_answer_is_asked_once_for_all_that_waits_for_it(tmp_path, capsys) -> None:
    asked = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        store = store_in(tmp_path, uri=f"http://127.0.0.1:{server.server_port}")
        for key in ("a", "b", "c"):
            leave(store, key)
        assert send_left_over(tmp_path) == 1
        server.shutdown()
    assert capsys.readouterr().out.count("access refused (HTTP 401)") == 3
    assert asked == ["/health"]


def test_another_value_of_an_evaluation_takes_the_place_of_the_first_and_the_same_one_does_not_double_it(tmp_path) -> None:
    store = store_in(tmp_path)
    tags = {"studyline.key": "same", "restored_from": "files"}
    values = {"a": (10, 0.0714), "b": (20, 0.0573), "c": (30, 0.0573), "d": (40, math.nan), "e": (50, math.nan)}
    for key, (at, value) in values.items():
        metrics = {"kind": "metrics", "step": 0, "values": {"test/ece": value}, "time": at}
        leave(store, key, metrics, FINISH, mode="adopt", tags=tags)
        assert send_left_over(tmp_path) == 0
        latest = runs_in(store)[0].data.metrics["test/ece"]
        assert latest == value or (math.isnan(latest) and math.isnan(value))
    (run,) = runs_in(store)
    points = mlflow.MlflowClient(store.uri).get_metric_history(run.info.run_id, "test/ece")
    assert sorted(point.timestamp for point in points) == [10, 20, 40]


@pytest.mark.parametrize("sent", [True, False], ids=["its end was sent", "its end waits"])
def test_a_training_killed_while_it_ended_goes_on_with_its_run(tmp_path, sent) -> None:
    store = store_in(tmp_path)
    first = {"kind": "metrics", "step": 1, "values": {"train/loss": 1.0}}
    leave(store, "same", first, FINISH)
    if sent:
        assert send_left_over(tmp_path) == 0
    with start(store, key="same", name="a run", params={}, tags={}, resumed=True) as run:
        for epoch in (1, 2):
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
    (found,) = runs_in(store)
    assert found.info.run_id == run.finish().run_id
    assert found.info.status == "FINISHED"
    assert history(store, found, "train/loss") == [(1, 1.0), (2, 0.5)]


def test_a_model_goes_to_the_store_of_its_run_though_a_queue_for_another_was_sent_in_between(tmp_path, model_folder) -> None:
    mine, other = (store_in(tmp_path, uri=f"sqlite:///{name}.db") for name in ("mine", "other"))
    sink = Sink(leave(mine, "mine"))
    sink.send(sink.spool.read()[0])
    sink.spool.delete()
    leave(other, "other", FINISH)
    assert send_left_over(tmp_path) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's own; a writer has no filter that makes errors of them
        sink.send([{"kind": "model", "path": str(model_folder), "example": EXAMPLE.tolist(), "epoch": 1}])
    (run,) = runs_in(mine)
    assert [output.model_id for output in run.outputs.model_outputs] == [str(sink.model_uri).removeprefix("models:/")]


def test_a_training_done_again_is_a_run_of_its_own(tmp_path) -> None:
    store = store_in(tmp_path)
    for key in ("one", "two"):
        leave(store, key, FINISH)
        assert send_left_over(tmp_path) == 0
    assert len(runs_in(store)) == 2


def test_the_server_may_go_and_come_back_while_training_goes_on(tmp_path, caplog) -> None:
    local = store_in(tmp_path)
    with ui.serving(local, free_port()) as (store, _):
        port = int(store.uri.rpartition(":")[2])
        run = open_run(store)
        run.log_epoch(1, {"train/loss": 1.0})
        state = Spool.of(tmp_path, "key").read_state
        until(lambda: state().run_id)
    run.log_epoch(2, {"train/loss": 0.5})
    until(lambda: state().problem)
    run.log_epoch(3, {"train/loss": 0.25})
    run.log_epoch(4, {"train/loss": 0.125})
    assert caplog.text.count("cannot be reached: connection refused; training continues") == 1
    with ui.serving(local, port) as (again, _):
        assert again.uri == store.uri
        assert run.finish().problem is None
        (found,) = runs_in(store)
        assert history(store, found, "train/loss") == [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125)]
        charts, newest = ui.addresses(again)
    assert charts.endswith(f"/#/experiments/{found.info.experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART")
    assert newest is not None
    assert found.info.run_id in newest


IMPATIENT = "import sys; from pathlib import Path; from pipeline.tracking import writer; writer.PATIENCE = 0.5"


def test_what_a_lost_store_never_got_stays_on_disk(tmp_path) -> None:
    spool = Spool.of(tmp_path, "key")
    uri = f"http://127.0.0.1:{free_port()}"
    with spool.append_to() as log:
        log.append({"kind": "open", "uri": uri, "artifacts": None, "experiment": "e"})
    command = f"{IMPATIENT}; sys.exit(writer.serve(Path(sys.argv[1])))"
    ended = subprocess.run(
        [sys.executable, "-c", command, str(spool.folder)], stdin=subprocess.DEVNULL, env={**os.environ, **CALM}
    )
    assert ended.returncode == AWAY
    assert spool.read_state().problem == f"MLflow at {uri} cannot be reached: connection refused"
    assert waiting(tmp_path) == [spool]
    assert send_left_over(tmp_path) == 1
