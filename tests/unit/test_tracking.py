"""Where runs go, whether the store can be reached, and the queue between a run and its writer."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Tracking
from pipeline.lineage import without_password, without_passwords
from pipeline.tracking import TrackingError, epoch_metrics, flatten, locate, problem, run_page, start
from pipeline.tracking.spool import Spool, State, waiting


def test_importing_the_package_does_not_import_mlflow() -> None:
    code = "import sys, pipeline.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("section", "environ", "uri"),
    [
        (Tracking(), {}, "sqlite:////project/mlflow.db"),
        (Tracking(), {"MLFLOW_TRACKING_URI": "http://host:5000"}, "http://host:5000"),
        (Tracking(uri="https://mine"), {"MLFLOW_TRACKING_URI": "http://host:5000"}, "https://mine"),
        (Tracking(uri="sqlite:///runs/x.db"), {}, "sqlite:////project/runs/x.db"),
        (Tracking(uri="sqlite:////elsewhere/x.db"), {}, "sqlite:////elsewhere/x.db"),
        (Tracking(uri="postgresql+psycopg2://me:pw@host/db"), {}, "postgresql+psycopg2://me:pw@host/db"),
    ],
)
def test_the_configuration_names_the_store_then_the_environment_then_the_default(section, environ, uri) -> None:
    assert locate(section, {"DVC_ROOT": "/project", **environ}).uri == uri


def test_without_dvc_the_root_is_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(Tracking(), {}).uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_only_stores_without_a_server_get_an_artifact_folder_from_us() -> None:
    environ = {"DVC_ROOT": "/project"}
    assert locate(Tracking(), environ).artifacts == "file:///project/mlartifacts"
    assert locate(Tracking(uri="http://host"), environ).artifacts is None


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "ftp://host/x"])
def test_a_uri_that_mlflow_3_does_not_take_is_refused_by_name(uri) -> None:
    with pytest.raises(TrackingError, match=r"tracking\.uri must start with sqlite:///, http\(s\)://.*got " + uri):
        locate(Tracking(uri=uri), {})


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_down_is_one_line_with_what_to_do(scheme, tmp_path) -> None:
    uri = f"{scheme}://127.0.0.1:{closed_port()}"
    why = problem(locate(Tracking(uri=uri), {"DVC_ROOT": str(tmp_path)}))
    assert why is not None
    assert "\n" not in why
    assert why.startswith(f"MLflow at {uri} cannot be reached: ")
    assert "onnection refused" in why
    assert why.endswith("start it, correct tracking.uri or MLFLOW_TRACKING_URI, or set tracking.required: false")


def test_a_database_in_a_missing_folder_names_the_folder(tmp_path) -> None:
    why = problem(locate(Tracking(uri="sqlite:///gone/mlflow.db"), {"DVC_ROOT": str(tmp_path)}))
    assert f"there is no folder {tmp_path / 'gone'}" in str(why)


def test_a_file_that_is_no_database_is_noticed_before_training(tmp_path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all, but long enough to have a header" * 20)
    assert "file is not a database" in str(problem(locate(Tracking(), {"DVC_ROOT": str(tmp_path)})))


def test_looking_at_a_missing_database_does_not_create_it(tmp_path) -> None:
    assert problem(locate(Tracking(), {"DVC_ROOT": str(tmp_path)})) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["postgresql://h:abc/db", "http://h:70000", "mysql+pymysql://me:p/w@host/db"])
def test_a_uri_whose_port_is_no_port_is_one_line_without_its_password(uri) -> None:
    with pytest.raises(TrackingError, match=r"tracking\.uri must be .* the port a number up to 65535.* got ") as told:
        locate(Tracking(uri=uri), {})
    assert "\n" not in str(told.value)
    assert "p/w" not in str(told.value)


def test_a_host_that_cannot_be_a_name_cannot_be_reached(tmp_path) -> None:
    store = locate(Tracking(uri=f"postgresql://{'x' * 70}/db"), {"DVC_ROOT": str(tmp_path)})
    assert "cannot be reached" in str(problem(store))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://host/db"),
        ("postgresql://me:sec@ret@host/db", "postgresql://host/db"),
        ("postgresql://me:se/cr@et@host/db", "postgresql://host/db"),
        ("mysql+pymysql://me:se?cr#et@host/db", "mysql+pymysql://host/db"),
        ("https://me:se/cret@host/x", "https://host/x"),
        (
            "postgresql://host/db?user=me&password=sec@ret&sslmode=require",
            "postgresql://host/db?user=***&password=***&sslmode=require",
        ),
        ("postgresql://me:secret@host/db?sslpassword=secret", "postgresql://host/db?sslpassword=***"),
        ("https://host/data.zip?X-Amz-Signature=secret&token=secret", "https://host/data.zip?X-Amz-Signature=***&token=***"),
        ("at 'https://me:secret@a', https://me:secret@b,mysql://me:secret@c", "at 'https://a', https://b,mysql://c"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host:8080/a@b?x=1", "https://host:8080/a@b?x=1"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("sqlite:////home/me@work/study.db", "sqlite:////home/me@work/study.db"),
    ],
)
def test_passwords_are_not_shown(uri, shown) -> None:
    assert without_password(uri) == shown


def test_passwords_are_left_out_of_all_plain_data() -> None:
    tree = {"a": ["mysql://me:secret@b"], "c": ({"d": "mysql://me:secret@e"}, 1), "f": None}
    assert without_passwords(tree) == {"a": ["mysql://b"], "c": ({"d": "mysql://e"}, 1), "f": None}


def test_passwords_in_params_are_not_recorded() -> None:
    tree = {"data": {"mirror": "https://user:pw@host/x", "more": ["https://a:b@c", "ftp://d"]}}
    assert flatten(tree) == {"data.mirror": "https://host/x", "data.more": '["https://c", "ftp://d"]'}


@pytest.mark.parametrize(
    ("run_id", "rest"),
    [("ab", "/runs/ab?workflowType=machine_learning"), (None, "/runs?workflowType=machine_learning&compareRunsMode=CHART")],
)
def test_the_pages_of_runs_and_charts_are_in_the_mode_for_model_training(run_id, rest) -> None:
    assert run_page("https://host/", "2", run_id) == f"https://host/#/experiments/2{rest}"


def test_params_are_flat_and_a_list_of_blocks_is_one_of_them() -> None:
    tree = {
        "train": {"lr": 0.001, "schedule": {"name": "none"}},
        "model": {"conv": [{"out": 4, "pool": None}], "batch_norm": True},
    }
    assert flatten(tree) == {
        "train.lr": "0.001",
        "train.schedule.name": "none",
        "model.conv": '[{"out": 4}]',
        "model.batch_norm": "true",
    }


def test_metrics_of_an_epoch_are_grouped_by_split() -> None:
    row = {"train_loss": 1.0, "validation_accuracy": 0.5, "lr": 0.1}
    assert epoch_metrics(row) == {"train/loss": 1.0, "validation/accuracy": 0.5, "train/lr": 0.1}


@pytest.mark.parametrize("key", ["", "a/b", "..", "x y", "k" * 65])
def test_a_key_that_cannot_name_a_folder_is_refused(key, tmp_path) -> None:
    with pytest.raises(ValueError, match="key must be 1 to 64 letters"):
        Spool.of(tmp_path, key)


RECORDS = st.lists(st.dictionaries(st.sampled_from(["kind", "x"]), st.text() | st.floats(allow_nan=False)), max_size=5)


@given(RECORDS, st.binary(max_size=20).filter(lambda tail: b"\n" not in tail))
def test_whatever_a_kill_cut_off_the_whole_records_are_read(tmp_path_factory, records, tail) -> None:
    spool = Spool(tmp_path_factory.mktemp("queue"))
    spool.records.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records) + tail)
    assert spool.read()[0] == records
    with spool.append_to() as log:
        log.append({"kind": "finish"})
    assert spool.read()[0] == [*records, {"kind": "finish"}]


def test_reading_goes_on_where_it_stopped(tmp_path) -> None:
    spool = Spool(tmp_path)
    spool.records.write_bytes(b'{"n": 1}\n{"n": 2')
    first, offset = spool.read()
    spool.records.write_bytes(b'{"n": 1}\n{"n": 2}\n')
    assert (first, spool.read(offset)[0]) == ([{"n": 1}], [{"n": 2}])


def test_a_queue_has_one_run_at_a_time(tmp_path) -> None:
    spool = Spool(tmp_path)
    assert not spool.in_use()
    with spool.append_to():
        assert spool.in_use()
        with pytest.raises(BlockingIOError), spool.append_to():
            pass
    assert not spool.in_use()


def test_a_run_that_ended_is_not_gone_on_with(tmp_path) -> None:
    spool = Spool(tmp_path)
    spool.records.write_text('{"kind": "open", "id": "a"}\n{"kind": "metrics"}\n')
    assert spool.opening() == "a"
    spool.records.write_text('{"kind": "open", "id": "a"}\n{"kind": "finish"}\n')
    assert spool.opening() is None
    assert spool.opening(resumed=True) == "a"


def test_looking_whether_a_queue_is_in_use_does_not_bring_it_back(tmp_path) -> None:
    spool = Spool(tmp_path / "queue")
    assert not spool.in_use()
    with spool.sole_writer(wait=True) as alone:
        assert not alone
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_goes_while_we_look_is_left_out(tmp_path, monkeypatch) -> None:
    for key in ("gone", "here"):
        with Spool.of(tmp_path, key).append_to():
            pass
    listed = Path.glob

    def then_delete(folder: Path, pattern: str) -> list[Path]:
        found = list(listed(folder, pattern))
        Spool.of(tmp_path, "gone").delete()
        return found

    monkeypatch.setattr(Path, "glob", then_delete)
    assert waiting(tmp_path) == [Spool.of(tmp_path, "here")]


def test_what_is_kept_for_sending_does_not_change_with_its_source(tmp_path) -> None:
    spool = Spool(tmp_path / "queue")
    source = tmp_path / "figures"
    source.mkdir()
    (source / "a.svg").write_text("then")
    first, second = spool.keep(source), spool.keep(source / "a.svg")
    (source / "a.svg").write_text("now")
    assert (spool.folder / first / "a.svg").read_text() == (spool.folder / second).read_text() == "then"


def test_a_state_is_read_as_it_was_written(tmp_path) -> None:
    state = State(run_id="r", model_uri="models:/m", warnings=("a", "b"))
    Spool(tmp_path).write_state(state)
    assert Spool(tmp_path).read_state() == state


def test_without_its_store_a_run_that_does_not_require_it_goes_on_and_says_so(tmp_path, caplog) -> None:
    store = locate(Tracking(uri=f"http://127.0.0.1:{closed_port()}", required=False), {"DVC_ROOT": str(tmp_path)})
    with start(store, key="k", name="n", params={}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        run.log_artifacts(tmp_path)
        run.describe("text")
    recorded = run.finish()
    assert recorded.run_id is None
    assert "this run is not recorded: MLflow at http://127.0.0.1" in caplog.text
    assert not list(Path(tmp_path).iterdir())


def test_without_its_store_a_run_that_requires_it_does_not_start(tmp_path) -> None:
    store = locate(Tracking(uri=f"http://127.0.0.1:{closed_port()}"), {"DVC_ROOT": str(tmp_path)})
    with pytest.raises(TrackingError, match="cannot be reached"):
        start(store, key="k", name="n", params={}, tags={})


def test_a_model_needs_two_example_images(tmp_path) -> None:
    store = locate(Tracking(uri=f"http://127.0.0.1:{closed_port()}", required=False), {"DVC_ROOT": str(tmp_path)})
    run = start(store, key="k", name="n", params={}, tags={})
    with pytest.raises(ValueError, match="example must have at least 2 images, got 1"):
        run.log_model(tmp_path, np.zeros((1, 1, 8, 8), np.uint8), epoch=1)
