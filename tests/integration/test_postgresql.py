"""Both stores on a real PostgreSQL server, which goes away in the middle and comes back."""

import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Study, Tracking
from pipeline.tracking import Store, locate
from study.state import ledger
from study.state.history import fold
from study.stores.addresses import locate_storage, storage_problem, write_stores
from study.stores.supervisor import Recorder, read_state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow, on its way in, uses what SQLAlchemy 2.1 deprecates
    import mlflow.pyfunc  # noqa: F401

    from study.stores.optuna import LeaseError, ToOptuna
    from study.stores.optuna_database import adopt, holder
    from study.stores.process import SENT, serve
    from study.stores.verify import verify


def has_all(folder: Path) -> bool:
    """Return whether each store has the whole ledger of a study."""
    size, state = (folder / ledger.NAME).stat().st_size, read_state(folder)
    return all(state.get(name, {}).get("offset") == size for name in ("optuna", "mlflow"))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server_stores(postgresql, tmp_path_factory) -> tuple[Store, str]:
    """MLflow and Optuna's storage, each in a database of the server."""
    environ = {"DVC_ROOT": str(tmp_path_factory.mktemp("project"))}
    section = Study(storage=postgresql.url("optuna"))
    return locate(Tracking(uri=postgresql.url("mlflow")), environ), locate_storage(
        section, environ, tmp_path_factory.getbasetemp()
    )


def test_a_server_that_goes_away_costs_nothing_and_gets_everything_when_it_is_back(script, server_stores, postgresql) -> None:
    store, url = server_stores
    with script() as play:
        play.create()
        play.open()
        play.whole(0)
        with Recorder(play.folder, store, url) as recorder:
            until(lambda: has_all(play.folder))
            postgresql.stop()
            play.whole(1)
            key = play.ask(2)
            play.epochs(key, 1, 1)
            until(lambda: len(recorder.look_after()) == 2)
            assert all("secret" not in problem and "\n" not in problem for problem in recorder.look_after())
            postgresql.start()
            until(lambda: not recorder.look_after())
            play.epochs(key, 2, 2)
            play.end(key, value=0.6)
            play.close()
            assert recorder.finish() == []
    assert verify(play.folder, store, url) == []


def test_another_machine_finds_the_whole_study_in_the_storage_and_goes_on_with_it(
    script, written_in, server_stores, tmp_path
) -> None:
    store, url = server_stores
    with script("moved") as play:
        play.create()
        play.open()
        for trial in range(3):
            play.whole(trial)
        left = play.ask(3)
        play.epochs(left, 1, 1)
        write_stores(play.folder, store, url)
    assert serve(play.folder, wait=False) == SENT
    with written_in(tmp_path / "there")("moved") as there:
        for event in adopt(url, "moved"):
            there.ledger.append(**event)
        there.open()
        there.epochs(left, 1, 2)
        there.end(left, value=0.9)
        there.close()
        write_stores(there.folder, store, url)
    before, after = fold(ledger.read(play.folder)), fold(ledger.read(there.folder))
    assert [run.values for run in after.trials] == [*(run.values for run in before.trials[:3]), [0.9]]
    assert serve(there.folder, wait=False) == SENT
    assert verify(there.folder, store, url) == []


def test_while_another_machine_runs_the_study_nobody_else_takes_the_lease(script, server_stores) -> None:
    url = server_stores[1]
    with script("leased") as play:
        play.create()
        play.open()
        events = ledger.read(play.folder)
    store = ToOptuna(url, events[0], play.folder)
    study = store.storage.get_study_id_from_name("leased")

    def renew() -> None:
        for _, do in store.chores(fold(events), alive=True):
            do()

    renew()
    assert store.storage.get_study_user_attrs(study)["coordinator"]["host"] == socket.gethostname()
    assert holder(url, "leased") is None
    store.storage.set_study_user_attr(study, "coordinator", {"host": "elsewhere", "pid": 7, "time": time.time()})
    assert holder(url, "leased") == "elsewhere (process 7)"
    store.close()
    store = ToOptuna(url, events[0], play.folder)
    with pytest.raises(LeaseError, match=r"^the study also runs on elsewhere \(process 7\); stop one of them"):
        renew()
    store.close()


def test_a_database_that_does_not_exist_is_one_line(postgresql) -> None:
    why = str(storage_problem(f"postgresql+psycopg://studyline:secret@127.0.0.1:{postgresql.port}/nowhere"))
    assert 'database "nowhere" does not exist' in why
    assert "secret" not in why
    assert "\n" not in why
    assert storage_problem(f"postgresql+psycopg://studyline:secret@127.0.0.1:{postgresql.port}/postgres") is None
