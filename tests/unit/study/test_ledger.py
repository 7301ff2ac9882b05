"""The ledger: whole events, one holder, nothing half-written."""

import json
import resource
import subprocess
import sys

import pytest

from pipeline.artifacts import DamagedError
from study.state.ledger import NAME, Ledger, held, read, tail


def test_what_was_appended_is_read_in_order(tmp_path) -> None:
    with Ledger.open(tmp_path / "s") as ledger:
        ledger.append("created", spec=1)
        ledger.append("ended", run="0")
    assert [event["kind"] for event in read(tmp_path / "s")] == ["created", "ended"]


def test_a_line_that_a_killed_process_left_half_written_is_dropped(tmp_path) -> None:
    (tmp_path / NAME).write_text('{"kind": "created", "time": 1}\n{"kind": "en')
    assert [event["kind"] for event in read(tmp_path)] == ["created"]
    with Ledger.open(tmp_path) as ledger:
        ledger.append("ended", run="0")
    assert [event["kind"] for event in read(tmp_path)] == ["created", "ended"]


def test_a_second_holder_is_refused_and_a_reader_is_not(tmp_path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.append("created")
        assert held(tmp_path)
        with pytest.raises(BlockingIOError), Ledger.open(tmp_path):
            pass
        assert len(read(tmp_path)) == 1
    assert not held(tmp_path)


def test_the_ledger_of_a_killed_process_is_free_at_once(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from study.state.ledger import Ledger\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger: ledger.append('created'); print('in', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert held(tmp_path)
        process.kill()
    assert not held(tmp_path)
    assert len(read(tmp_path)) == 1


def test_where_there_is_no_room_nothing_is_written_and_the_same_event_fits_later(tmp_path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.append("created", text="x" * 100)
        size = (tmp_path / NAME).stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                ledger.append("ended", text="y" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / NAME).stat().st_size == size
        ledger.append("ended", text="y" * 100)
    assert [event["kind"] for event in read(tmp_path)] == ["created", "ended"]


def test_a_follower_reads_on_where_it_stopped_and_only_whole_events(tmp_path) -> None:
    path = tmp_path / NAME
    path.write_text(json.dumps({"kind": "created"}) + "\n" + '{"kind": "as')
    events, offset = tail(tmp_path, 0)
    assert [event["kind"] for event in events] == ["created"]
    with path.open("a") as file:
        file.write('ked"}\n')
    assert [event["kind"] for event in tail(tmp_path, offset)[0]] == ["asked"]
    assert tail(tmp_path / "none", 0) == ([], 0)


def test_numbers_that_are_no_json_are_refused(tmp_path) -> None:
    with Ledger.open(tmp_path) as ledger, pytest.raises(ValueError, match="JSON"):
        ledger.append("ended", value=float("nan"))
    assert (tmp_path / NAME).stat().st_size == 0


def test_a_damaged_ledger_is_refused_with_what_to_do_and_is_left_as_it_is(tmp_path) -> None:
    with Ledger.open(tmp_path / "s") as ledger:
        ledger.append("created", spec=1)
        ledger.append("ended", run="0")
    path = tmp_path / "s" / NAME
    damaged = path.read_bytes().replace(b'"spec": 1', b'"spec": 3')
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match=r"ledger\.jsonl is damaged: record 1 .*; restore it from a copy, or move .*s away"):
        read(tmp_path / "s")
    assert path.read_bytes() == damaged
