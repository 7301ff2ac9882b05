"""The recorder: what it writes to Optuna's storage and to MLflow, killed anywhere, with stores that are away."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline import artifacts
from pipeline.config import Study, Tracking
from pipeline.tracking import locate
from study.state import ledger
from study.state.errors import UsageError
from study.state.history import fold
from study.stores.addresses import locate_storage, storage_problem, write_stores
from study.stores.process import send_left_over
from study.stores.supervisor import Recorder, read_state, unsent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow, on its way in, uses what SQLAlchemy 2.1 deprecates
    import mlflow.pyfunc  # noqa: F401
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run

    from study.stores.optuna_database import adopt, connect, holder, identity_problem, restore, trials
    from study.stores.process import AWAY, SENT, serve
    from study.stores.verify import verify


OPENED = {
    "trials": 3,
    "study": {},
    "workers": [],
    "engine": "local",
    "pid": 1,
    "host": "here",
    "command": "study run",
}


def has_all(folder: Path) -> bool:
    """Return whether each store has the whole ledger of a study."""
    size, state = (folder / ledger.NAME).stat().st_size, read_state(folder)
    return all(state.get(name, {}).get("offset") == size for name in ("optuna", "mlflow"))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def runs_of(stores, folder: Path) -> dict[str, Run]:
    """The runs of a study in MLflow by their keys; the parent's is ``study``."""
    ids = artifacts.read_sealed(folder / "mlflow.json")
    client = MlflowClient(stores.mlflow.uri)
    return {key: client.get_run(run_id) for key, run_id in {"study": ids["parent"], **ids["runs"]}.items()}


@pytest.fixture(scope="module")
def told(tmp_path_factory, written_in, stored_in) -> SimpleNamespace:
    """A study in which all happens that can happen, recorded in one go when it was over."""
    root = tmp_path_factory.mktemp("told")
    stores = stored_in(root)
    with written_in(root)() as play:
        play.create()
        play.open()
        play.whole(0, value=0.9)
        play.whole(1, value=0.7)
        pruned, failed = play.ask(2), play.ask(3)
        play.epochs(pruned, 1, 1)
        play.pause(pruned, 1)
        play.end(pruned, "PRUNED", cause="asha", reason="not promoted after epoch 1", kept_epoch=1)
        play.end(failed, "FAIL", cause="exception", reason="TypeError: no", kept_epoch=None)
        for seed in (0, 1):
            play.whole(0, seed=seed, value=0.8)
            play.whole(1, seed=seed, value=0.7)
        finalists = [{"trial": 0, "mean": 0.8, "low": 0.7, "high": 0.9, "n": 2, "parameters": 1203}, {"trial": 1, "mean": 0.7}]
        play.ledger.append("winner", trial=0, group="g", finalists=finalists, summary="trial 0 wins: 80 %")
        (root / "page").mkdir()
        (root / "page" / "index.html").write_text("a page")
        play.ledger.append("artifacts", path=str(root / "page"), folder="report")
        play.close()
        folder = stores.of(play.folder)
    assert serve(folder, wait=False) == SENT
    return SimpleNamespace(folder=folder, stores=stores, runs=runs_of(stores, folder), history=fold(ledger.read(folder)))


def test_afterwards_ledger_optuna_and_mlflow_agree(told) -> None:
    assert verify(told.folder, told.stores.mlflow, told.stores.optuna) == []
    assert unsent(told.folder) == []


def rows(stores) -> list[list[str]]:
    """All rows of both databases."""
    found = []
    for path in (stores.mlflow.database, stores.optuna.removeprefix("sqlite:///")):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        found.append(sorted(connection.iterdump()))
        connection.close()
    return found


def test_sent_again_nothing_changes_in_either_database(told) -> None:
    before = rows(told.stores)
    assert serve(told.folder, wait=False) == SENT
    assert rows(told.stores) == before


def test_the_study_is_a_parent_and_each_training_a_child_with_its_own_state(told) -> None:
    parent = told.runs.pop("study")
    statuses = {key: run.info.status for key, run in told.runs.items()}
    told.runs["study"] = parent
    assert parent.info.status == "FINISHED"
    assert statuses == dict.fromkeys(("0", "1", "0.s0", "0.s1", "1.s0", "1.s1"), "FINISHED") | {"2": "KILLED", "3": "FAILED"}
    assert {run.data.tags.get("mlflow.parentRunId") for run in told.runs.values()} == {None, parent.info.run_id}


def test_tags_tell_what_a_run_is_and_why_it_ended(told) -> None:
    tags = told.runs["2"].data.tags
    expected = {"kind": "trial", "study": "night", "trial": "2", "state": "PRUNED", "cause": "asha", "family": "mlp", "seed": "2"}
    assert expected.items() <= tags.items()
    assert tags["reason"] == "not promoted after epoch 1"
    assert told.runs["1.s1"].data.tags["kind"] == "finalist"
    assert told.runs["1.s1"].data.tags["seed_group"] == told.runs["1"].data.tags["seed_group"]
    assert told.runs["study"].data.tags["kind"] == "study"


def test_times_of_runs_are_those_of_the_ledger(told) -> None:
    run = told.history.runs["1"]
    assert (told.runs["1"].info.start_time, told.runs["1"].info.end_time) == (run.asked, run.ended)
    trial = trials(told.stores.optuna, "night")[1]
    assert (trial.datetime_start, trial.datetime_complete) == tuple(
        datetime.fromtimestamp(time / 1000) for time in (run.asked, run.ended)
    )


def test_searched_parameters_and_the_whole_configuration_are_parameters_of_the_run(told) -> None:
    params = told.runs["1"].data.params
    assert params["train.lr"] == "0.01"
    assert params["train.batch_size"] == "50"
    assert json.loads(params["model.dense"]) == [{"out": 8}]
    assert told.runs["study"].data.params["study.sampler"] == "tpe"


def test_curves_have_a_point_per_epoch_at_the_time_it_ended(told) -> None:
    client = MlflowClient(told.stores.mlflow.uri)
    points = client.get_metric_history(told.runs["1"].info.run_id, "validation/loss")
    epochs = told.history.runs["1"].epochs
    assert [(point.step, point.value, point.timestamp) for point in points] == [
        (epoch.epoch, epoch.validation_loss, epoch.time) for epoch in epochs
    ]
    assert told.runs["1"].data.metrics["best/validation_accuracy"] == epochs[-1].validation_accuracy


def test_every_training_keeps_its_weights_and_the_best_and_the_finalists_are_models(told) -> None:
    client = MlflowClient(told.stores.mlflow.uri)
    files = {key: {item.path for item in client.list_artifacts(run.info.run_id, "classifier")} for key, run in told.runs.items()}
    assert all(files[key] == {"classifier/model.json", "classifier/weights.safetensors"} for key in ("0", "1", "2", "0.s0"))
    assert {key for key, run in told.runs.items() if run.outputs and run.outputs.model_outputs} == {"0", "0.s0", "0.s1", "1.s0"}


def test_the_parent_says_what_won_and_holds_the_report_and_the_data(told) -> None:
    parent = told.runs["study"]
    assert parent.data.tags["mlflow.note.content"].startswith("**trial 0 wins: 80 %**")
    assert parent.data.metrics["winner/mean"] == 0.8
    assert parent.data.metrics["trials/pruned"] == 1
    assert {item.dataset.name for item in parent.inputs.dataset_inputs} == {"noise training", "noise validation"}
    (page,) = MlflowClient(told.stores.mlflow.uri).list_artifacts(parent.info.run_id, "report")
    assert page.path == "report/index.html"


def test_in_optuna_a_trial_has_its_state_values_reason_and_some_epochs(told) -> None:
    complete, _, pruned, failed = trials(told.stores.optuna, "night")
    assert [trial.state.name for trial in (complete, pruned, failed)] == ["COMPLETE", "PRUNED", "FAIL"]
    assert (complete.values, complete.params) == ([0.9], {"train.lr": 0.1})
    assert sorted(complete.intermediate_values) == [1, 2]
    assert pruned.user_attrs["reason"] == "not promoted after epoch 1"
    assert failed.user_attrs["cause"] == "exception"


@pytest.mark.parametrize(
    ("database", "statement", "said"),
    [
        ("study.db", "UPDATE trials SET state = 'FAIL' WHERE number = 0", "Optuna: trial 0: state FAIL, COMPLETE in the ledger"),
        (
            "study.db",
            "UPDATE trial_values SET value = 0.1 WHERE value = 0.9",
            "Optuna: trial 0: values [0.1], [0.9] in the ledger",
        ),
        ("study.db", "UPDATE studies SET study_name = 'x'", "Optuna: there is no study night"),
        (
            "mlflow.db",
            "UPDATE runs SET status = 'RUNNING' WHERE name = 'trial 2'",
            "MLflow: run 2: status RUNNING, KILLED in the",
        ),
        ("mlflow.db", "UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'trial 1'", "MLflow: run 1 is missing"),
        ("mlflow.db", "DELETE FROM metrics WHERE step = 2 AND key = 'validation/accuracy'", "MLflow: run 0: epochs [(1, "),
        ("mlflow.db", "UPDATE params SET value = '7' WHERE key = 'train.lr'", "MLflow: run 0: parameters "),
    ],
)
def test_verify_names_what_was_changed_behind_its_back(told, tmp_path, database, statement, said) -> None:
    for name in ("mlflow.db", "study.db"):
        with sqlite3.connect(tmp_path / name) as copy:
            sqlite3.connect(told.stores.mlflow.root / name).backup(copy)
    with sqlite3.connect(tmp_path / database) as changed:
        changed.execute(statement)
    store = locate(Tracking(), {"DVC_ROOT": str(tmp_path)})
    assert [line for line in verify(told.folder, store, f"sqlite:///{tmp_path}/study.db") if line.startswith(said)]


def test_a_recorder_killed_again_and_again_leaves_nothing_out_and_nothing_twice(script, stores, killer) -> None:
    with script() as play:
        play.create()
        play.open()
        for trial in range(6):
            play.whole(trial)
        paused = play.ask(6)
        play.epochs(paused, 1, 1)
        play.pause(paused, 1)
        play.close()
        folder = stores.of(play.folder)
    ends = [killer(folder, 1)]
    while ends[-1] == -signal.SIGKILL:
        before = rows(stores)
        verify(folder, stores.mlflow, stores.optuna)  # whoever looks in between
        assert rows(stores) == before
        ends.append(killer(folder, 30 * len(ends)))
    assert ends[-1] == SENT
    assert len(ends) > 6  # the whole takes more statements than the first six were allowed together
    assert verify(folder, stores.mlflow, stores.optuna) == []


def test_what_a_killed_recorder_left_of_a_model_is_marked_as_failed_and_the_model_is_logged_again(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        folder = stores.of(play.folder)
        assert serve(folder, wait=False) == SENT
        run, client = runs_of(stores, folder)["0"], MlflowClient(stores.mlflow.uri)
        left, gone = (client.create_logged_model(run.info.experiment_id, "model", run.info.run_id) for _ in range(2))
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=2) for model in (left, gone)])
        client.delete_logged_model(gone.model_id)
        play.close()
    assert "MLflow: run 0 has no model" in verify(folder, stores.mlflow, stores.optuna)
    assert client.get_logged_model(left.model_id).status == LoggedModelStatus.PENDING
    assert serve(folder, wait=False) == SENT
    models = client.search_logged_models([run.info.experiment_id])
    assert {model.model_id == left.model_id: model.status for model in models} == {
        True: LoggedModelStatus.FAILED,
        False: LoggedModelStatus.READY,
    }
    assert verify(folder, stores.mlflow, stores.optuna) == []


def test_a_coordinator_that_dies_leaves_no_run_running_and_the_next_goes_on_with_them(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        key = play.ask(1)
        play.epochs(key, 1, 1)
        folder = stores.of(play.folder)
    assert serve(folder, wait=False) == SENT
    assert {key: run.info.status for key, run in runs_of(stores, folder).items()} == {
        "study": "KILLED",
        "0": "FINISHED",
        "1": "SCHEDULED",
    }
    assert verify(folder, stores.mlflow, stores.optuna) == []
    with script() as play:
        play.open()
        play.epochs(key, 2, 2)
        play.end(key, value=0.6)
        play.close("stopped")
    assert serve(folder, wait=False) == SENT
    assert runs_of(stores, folder)["1"].info.status == "FINISHED"
    assert verify(folder, stores.mlflow, stores.optuna) == []


def test_one_store_that_is_away_does_not_keep_the_other_waiting(script, stores, tmp_path) -> None:
    away = locate(Tracking(uri="sqlite:///gone/mlflow.db"), {"DVC_ROOT": str(tmp_path)})
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        play.close()
        write_stores(play.folder, away, stores.optuna)
    assert serve(play.folder, wait=False, patience=0) == AWAY
    assert len(trials(stores.optuna, "night")) == 1
    (lack,) = unsent(play.folder)
    assert lack.startswith("MLflow lacks part of the study: ")
    assert "`python -m study.stores` sends what is missing" in lack
    stores.of(play.folder)
    assert serve(play.folder, wait=False) == SENT
    assert verify(play.folder, stores.mlflow, stores.optuna) == []


def test_another_study_of_the_same_name_in_the_storage_is_left_alone(script, stores, tmp_path) -> None:
    for root in (tmp_path / "a", tmp_path / "b"):
        with script(root=root) as play:
            play.create()
            play.open()
            play.whole(0)
            play.close()
            folder = stores.of(play.folder)
        code = serve(folder, wait=False)
    assert code == AWAY
    (lack,) = unsent(folder)
    said = (
        "Optuna's storage holds another study named night; start a study of another name (--new or --name), or delete that one"
        f" from the storage: optuna delete-study --study-name night --storage {stores.optuna}"
    )
    assert lack == f"Optuna's storage does not take the study: {said}"
    assert len(trials(stores.optuna, "night")) == 1
    assert identity_problem(stores.optuna, folder) == said
    assert identity_problem(stores.optuna, tmp_path / "a" / "studies" / "night") is None
    assert identity_problem(stores.optuna, tmp_path / "nowhere") is None
    assert identity_problem(f"sqlite:///{tmp_path}/none.db", folder) is None


def test_a_ledger_that_lacks_trials_of_the_storage_or_has_others_is_told_before_anything_starts(script, stores, tmp_path) -> None:
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        begun = ledger.read(play.folder)
        play.whole(1)
        folder = stores.of(play.folder)
        assert serve(folder, wait=False) == SENT
    assert identity_problem(stores.optuna, folder) is None
    restore(tmp_path / "b" / "night", begun)
    assert f"has more trials of night than {tmp_path}/b/night/ledger.jsonl; move {tmp_path}/b/night away" in str(
        identity_problem(stores.optuna, tmp_path / "b" / "night")
    )
    with script(root=tmp_path / "c") as play:
        for event in begun:
            play.ledger.append(**event)
        play.whole(1)
        play.whole(2)
    assert "trial 1 of night in Optuna's storage is not the one of this ledger" in str(
        identity_problem(stores.optuna, play.folder)
    )


def test_a_lost_ledger_is_written_anew_from_the_storage(script, stores, tmp_path) -> None:
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        for key in (play.ask(1), play.ask(2)):
            play.epochs(key, 1, 1)
        play.pause("2", 1)
        folder = stores.of(play.folder)
        assert serve(folder, wait=False) == SENT
    events = adopt(stores.optuna, "night")
    before, after = fold(ledger.read(folder)), fold(events)
    assert after.spec == before.spec
    assert after.lineage == before.lineage
    for key in ("0", "2"):
        ours, theirs = vars(before.runs[key]), vars(after.runs[key])
        assert {name: theirs[name] for name in ours if name != "segments"} == {k: v for k, v in ours.items() if k != "segments"}
    assert (after.runs["1"].state, after.runs["1"].epochs) == ("RUNNING", [])
    assert adopt(stores.optuna, "another") is None
    with script(root=tmp_path / "elsewhere") as play:
        for event in events:
            play.ledger.append(**event)
        play.open()
        play.epochs("1", 1, 2)
        play.end("1", value=0.4)
        play.close()
    assert serve(stores.of(play.folder), wait=False) == SENT
    assert [trial.state.name for trial in trials(stores.optuna, "night")] == ["COMPLETE", "COMPLETE", "RUNNING"]


def test_a_study_that_moves_keeps_its_winner_its_options_and_what_it_scored_on_test(script, stores, tmp_path) -> None:
    with script() as play:
        play.create()
        play.ledger.append("opened", **OPENED, changes={"train.epochs": 2, "study.trials": 3}, seeds=[])
        play.whole(0)
        play.close()
        play.ledger.append("opened", **OPENED, changes={"study.trials": 4}, seeds=[{"params": {}, "origin": "x.yaml"}])
        play.ledger.append("winner", trial=0, group="g", finalists=[], ties=[], summary="trial 0 wins")
        first = {"successes": 1, "n": 2, "low": 0.1, "high": 0.9}
        play.ledger.append("tested", trial=0, group="g", runs=["0"], first=first, accuracies=[0.5], summary="test accuracy 50 %")
        folder = stores.of(play.folder)
    assert serve(folder, wait=False) == SENT
    before, there = fold(ledger.read(folder)), tmp_path / "there" / "night"
    restore(there, adopt(stores.optuna, "night"))
    after = fold(ledger.read(there))
    assert (after.winner, after.tested) == (before.winner, before.tested)
    assert (after.changes, after.seeds) == ({"train.epochs": 2, "study.trials": 4}, [{"params": {}, "origin": "x.yaml"}])
    assert after.spec == before.spec
    assert identity_problem(stores.optuna, there) is None


def test_a_ledger_is_not_restored_over_another(tmp_path) -> None:
    first, second = ([{"kind": "created", "time": number}] for number in (1, 2))
    (tmp_path / "ledger.jsonl").touch()  # what a session leaves that could write nothing
    restore(tmp_path, first)
    with pytest.raises(FileExistsError, match=r"ledger\.jsonl exists already; the same command continues it"):
        restore(tmp_path, second)
    assert ledger.read(tmp_path) == first
    with ledger.Ledger.open(tmp_path), pytest.raises(BlockingIOError):
        restore(tmp_path, second)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


def test_a_trial_that_optuna_does_not_take_is_told_and_keeps_no_other_waiting(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        (asked,) = (event for event in ledger.read(play.folder) if event["kind"] == "asked")
        play.ledger.append(**asked | {"run": "1", "trial": 1, "params": {"train.lr": 7.0}})  # beyond what it may be
        play.epochs("1", 1, 2)
        play.end("1", value=0.6)
        play.whole(2)
        play.close()
        folder = stores.of(play.folder)
    assert serve(folder, wait=False) == SENT
    (told,) = unsent(folder)
    assert told.startswith("Optuna's storage: it did not take run 1: ")
    assert [trial.state.name for trial in trials(stores.optuna, "night")] == ["COMPLETE", "FAIL", "COMPLETE"]
    differences = verify(folder, stores.mlflow, stores.optuna)
    assert differences
    assert all(line.startswith("Optuna: trial 1: ") for line in differences)


def test_a_study_deleted_from_the_storage_under_the_recorder_is_recorded_again(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        with Recorder(play.folder, stores.mlflow, stores.optuna) as recorder:
            until(lambda: has_all(play.folder))
            storage = connect(stores.optuna)
            storage.delete_study(storage.get_study_id_from_name("night"))
            storage.engine.dispose()
            play.whole(1)
            play.close()
            assert recorder.finish() == []
    assert verify(play.folder, stores.mlflow, stores.optuna) == []


def test_a_store_that_refuses_leaves_a_line_in_the_log_which_only_its_owner_reads(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        folder = stores.of(play.folder)
        assert serve(folder, wait=False) == SENT
        storage = connect(stores.optuna)
        study = storage.get_study_id_from_name("night")
        created = json.loads(storage.get_study_user_attrs(study)["created"])
        storage.set_study_user_attr(study, "created", json.dumps(created | {"time": 1}))
        storage.engine.dispose()
        log = folder / "recorder.log"
        log.touch(0o644)
        with Recorder(folder, stores.mlflow, stores.optuna) as recorder:
            (problem,) = recorder.finish()
    assert "does not take the study" in problem
    assert "StorageRefusedError: Optuna's storage holds another study named night" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_nobody_gives_up_a_recorder_that_has_not_begun_yet(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        play.close()
        with Recorder(play.folder, stores.mlflow, stores.optuna) as recorder:
            (process,) = psutil.Process().children()
            recorder.finish(patience=0)
            assert {told["pid"] for told in read_state(play.folder).values()} == {process.pid}
            assert recorder._process is not None
            recorder._process.wait()


def test_tracebacks_in_the_log_hold_no_password() -> None:
    code = (
        "import logging; from study.stores.process import _log_to_stderr; _log_to_stderr();"
        " logging.getLogger('study').warning('x', exc_info=ValueError('postgresql://me:secret@host/db'));"
        " raise OSError('postgresql://me:secret@host/db')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "ValueError: postgresql://host/db" in said
    assert "OSError: postgresql://host/db" in said
    assert "secret" not in said


def test_a_lease_tells_which_other_machine_runs_the_study(script, stores) -> None:
    with script() as play:
        play.create()
        play.open()
        folder = stores.of(play.folder)
    serve(folder, wait=False)
    assert holder(stores.optuna, "night") is None
    storage = connect(stores.optuna)
    study = storage.get_study_id_from_name("night")
    lease = {"host": "elsewhere", "pid": 7, "time": time.time()}
    storage.set_study_user_attr(study, "coordinator", lease)
    assert holder(stores.optuna, "night") == "elsewhere (process 7)"
    storage.set_study_user_attr(study, "coordinator", lease | {"time": time.time() - 61})
    assert holder(stores.optuna, "night") is None
    storage.engine.dispose()


def test_a_session_is_recorded_while_it_runs_whatever_happens_to_the_recorder(script, stores) -> None:
    """The process: started, killed, started again, and ended with the session."""
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        with Recorder(play.folder, stores.mlflow, stores.optuna) as recorder:
            until(lambda: has_all(play.folder))
            assert recorder.look_after() == []
            assert stat.S_IMODE((play.folder / "stores.json").stat().st_mode) == 0o600
            assert runs_of(stores, play.folder)["study"].info.status == "RUNNING"
            (process,) = psutil.Process().children()
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            until(lambda: not recorder.look_after() and psutil.Process().children())
            play.whole(1)
            play.close()
            assert recorder.finish() == []
    assert verify(play.folder, stores.mlflow, stores.optuna) == []
    assert read_state(play.folder)["mlflow"]["parent"] == runs_of(stores, play.folder)["study"].info.run_id


def test_a_recorder_makes_room_for_that_of_the_next_session(script, stores, tmp_path) -> None:
    """Its coordinator died while a store was away; a new one goes on with the study."""
    away = locate(Tracking(uri="sqlite:///gone/mlflow.db"), {"DVC_ROOT": str(tmp_path)})
    with script() as play:
        play.create()
        play.open()
        with Recorder(play.folder, away, stores.optuna) as first:
            until(first.look_after)
    with script() as play:
        play.open()
        with Recorder(play.folder, stores.mlflow, stores.optuna) as second:
            play.whole(0)
            play.close()
            assert second.finish() == []
    assert first.finish() == []  # its process has ended
    assert verify(play.folder, stores.mlflow, stores.optuna) == []


def test_what_killed_recorders_left_is_sent_by_hand(script, stores, tmp_path, capsys) -> None:
    for name in ("first", "second"):
        with script(name) as play:
            play.create()
            play.open()
            play.whole(0)
            stores.of(play.folder)
    with script("running") as play:
        play.create()
        stores.of(play.folder)
        assert send_left_over(tmp_path) == 0
    assert capsys.readouterr().out == "first: all is sent\nsecond: all is sent\n"
    assert verify(tmp_path / "studies" / "second", stores.mlflow, stores.optuna) == []
    assert send_left_over(tmp_path / "nowhere") == 0
    assert capsys.readouterr().out == "nothing is left to send\n"


def test_the_coordinator_pays_for_neither_mlflow_nor_optunas_database() -> None:
    code = "import sys, study.stores.supervisor; sys.exit(bool({'mlflow', 'optuna.storages', 'sqlalchemy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("section", "environ", "url"),
    [
        (Study(), {}, "sqlite:////project/study.db"),
        (Study(storage="sqlite:///x/y.db"), {}, "sqlite:////project/x/y.db"),
        (Study(storage="sqlite:////x/y.db"), {}, "sqlite:////x/y.db"),
        (Study(), {"STUDYLINE_STORAGE": "postgresql://me:pw@host/db"}, "postgresql+psycopg://me:pw@host/db"),
        (Study(storage="mysql+pymysql://host/db"), {"STUDYLINE_STORAGE": "postgresql://host/db"}, "mysql+pymysql://host/db"),
    ],
)
def test_the_storage_is_named_by_the_configuration_then_the_environment_then_the_default(section, environ, url) -> None:
    assert locate_storage(section, environ, Path("/project")) == url


@pytest.mark.parametrize("url", ["study.db", "redis://me:secret@host/1", "journal:///x", "postgresql://"])
def test_a_storage_of_another_kind_is_refused_without_its_password(url) -> None:
    with pytest.raises(
        UsageError, match=r"^study\.storage must start with sqlite:///, postgresql:// or mysql://, got "
    ) as refusal:
        locate_storage(Study(storage=url), {}, Path("/project"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql"])
def test_a_storage_that_is_away_is_one_line_with_what_to_do(scheme, closed_port) -> None:
    why = str(storage_problem(f"{scheme}://me:secret@127.0.0.1:{closed_port}/db"))
    assert why.startswith(f"Optuna's storage at {scheme}://127.0.0.1:{closed_port}/db cannot be reached: ")
    assert "onnection refused" in why
    assert why.endswith("start it, or correct study.storage")
    assert "secret" not in why
    assert "\n" not in why
