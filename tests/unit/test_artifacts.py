"""Files appear whole, one process at a time writes them, nobody removes another's, and no flipped bit is accepted."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from pipeline import artifacts
from pipeline.artifacts import DamagedError

WRITER = """
import sys, pathlib
from pipeline.artifacts import atomic_folder
with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "who").write_text(sys.argv[2])
    print("in", flush=True)
    sys.stdin.readline()
"""


def writer(target, who: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(target), who]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flipped(content: bytes):
    for index in range(len(content)):
        for bit in range(8):
            yield content[:index] + bytes([content[index] ^ 1 << bit]) + content[index + 1 :]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out"
    with artifacts.atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(FileNotFoundError), artifacts.atomic_folder(target) as folder:
        (folder / "a").rename(folder / "b")
    assert (target / "a").read_text() == "1"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_of_a_folder_is_removed_by_the_next_that_writes_it(tmp_path):
    target = tmp_path / "out"
    with writer(target, "first") as process:
        process.stdout.readline()
        process.kill()
    assert names(tmp_path) == [".out.lock", ".out.new"]
    with artifacts.atomic_folder(target) as folder:
        (folder / "who").write_text("second")
    assert (target / "who").read_text() == "second"
    assert names(tmp_path) == ["out"]


def test_an_old_folder_whose_successor_was_killed_between_the_renames_returns(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old/a").write_text("1")
    with pytest.raises(RuntimeError), artifacts.atomic_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out/a").read_text() == "1"
    assert names(tmp_path) == ["out"]


def test_folders_whose_names_begin_alike_are_written_at_once_and_none_touches_another(tmp_path):
    targets = [tmp_path / name for name in ("s", "s-b", "s.b", "s-", "s.new")]
    processes = [writer(target, target.name) for target in targets]
    for process in processes:
        assert process.stdout.readline() == "in\n"  # all are in the midst of writing
    for process in reversed(processes):
        process.communicate("\n")
        assert process.returncode == 0
    assert [(target / "who").read_text() for target in targets] == ["s", "s-b", "s.b", "s-", "s.new"]
    assert names(tmp_path) == sorted(target.name for target in targets)


def test_two_processes_write_one_folder_one_after_the_other(tmp_path):
    first, second = writer(tmp_path / "out", "first"), writer(tmp_path / "out", "second")
    lines = []
    for process in (first, second):
        thread = threading.Thread(target=lambda process=process: lines.append((process, process.stdout.readline())))
        thread.start()
    while not lines:
        pass
    assert len(lines) == 1, "both are in the midst of writing"
    earlier = lines[0][0]
    later = second if earlier is first else first
    earlier.communicate("\n")
    later.communicate("\n")
    assert (earlier.returncode, later.returncode) == (0, 0)
    assert (tmp_path / "out/who").read_text() == ("second" if later is second else "first")
    assert names(tmp_path) == ["out"]


def test_a_lock_that_is_not_waited_for_is_refused_and_free_when_its_holder_is_killed(tmp_path):
    with writer(tmp_path / "out", "x") as process:
        process.stdout.readline()
        with pytest.raises(BlockingIOError), artifacts.locked(tmp_path / "out", wait=False):
            pass
        os.kill(process.pid, signal.SIGKILL)
    with artifacts.locked(tmp_path / "out", wait=False):
        assert ".out.lock" in names(tmp_path)
    assert ".out.lock" not in names(tmp_path)


def test_whoever_waits_for_a_lock_is_told_once(tmp_path, capsys):
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with artifacts.locked(tmp_path / "out"):
            entered.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    threading.Timer(0.1, leave.set).start()
    with artifacts.locked(tmp_path / "out", notice="somebody else is at it; waiting"):
        assert capsys.readouterr().out == "somebody else is at it; waiting\n"
    holder.join()


def test_many_threads_take_turns(tmp_path):
    path, counts = tmp_path / "n.json", []

    def add() -> None:
        for _ in range(20):
            with artifacts.locked(tmp_path / "counter"):
                count = artifacts.read_json(path) if path.exists() else 0
                artifacts.write_json(path, count + 1)
                counts.append(count)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == list(range(160))
    assert names(tmp_path) == ["n.json"]


def test_a_file_keeps_its_old_content_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        artifacts.write_json(path, {"x": float("nan")})
    assert artifacts.read_json(path) == {"x": 1}
    assert names(tmp_path) == ["a.json"]


def test_what_a_killed_process_left_of_a_file_is_written_over(tmp_path):
    (tmp_path / ".a.new.json").write_text("half")
    (tmp_path / ".a.json.lock").touch()
    artifacts.write_json(tmp_path / "a.json", {"x": 1})
    assert names(tmp_path) == ["a.json"]


def test_a_file_for_its_owner_alone_is_never_readable_by_others(tmp_path):
    (tmp_path / ".a.new.json").touch(mode=0o644)  # of a killed process
    artifacts.write_sealed(tmp_path / "a.json", {"password": "x"}, private=True)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600


def test_only_the_last_written_files_are_kept_and_what_is_being_written_stays(tmp_path):
    for age, name in enumerate(["a", "b", ".x.new", "c"]):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (age, age))
    artifacts.keep_newest(tmp_path, 2)
    assert names(tmp_path) == [".x.new", "b", "c"]


def test_a_folder_whose_files_are_as_they_were_written_is_verified(tmp_path):
    with artifacts.atomic_folder(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        (folder / "deep/ü b.txt").write_text("1")
        (folder / "a").write_bytes(bytes(range(256)))
    assert artifacts.verified(tmp_path / "out") == tmp_path / "out"
    assert artifacts.verified(tmp_path) == tmp_path, "a folder of an earlier version has no list"


def test_no_flipped_bit_of_a_folder_or_of_its_list_is_accepted(tmp_path):
    with artifacts.atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"some bytes")
        (folder / "b").write_bytes(b"")
    for path in (tmp_path / "out/a", tmp_path / "out" / artifacts.SUMS):
        content = path.read_bytes()
        for damaged in flipped(content):
            path.write_bytes(damaged)
            with pytest.raises(DamagedError, match=r"is damaged: .* remove .*out and repeat the command"):
                artifacts.verified(tmp_path / "out")
        path.write_bytes(content)
    (tmp_path / "out/a").write_bytes(b"other")
    assert artifacts.verified(tmp_path / "out", "b") == tmp_path / "out", "only b is compared"
    (tmp_path / "out/a").write_bytes(b"some bytes")
    (tmp_path / "out/b").unlink()
    with pytest.raises(DamagedError, match="/b is damaged"):
        artifacts.verified(tmp_path / "out")


def test_sealed_data_come_back_and_no_flipped_bit_of_them_does(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_sealed(path, {"x": (1, 2.5, None), 3: "ü", 20: True})
    assert artifacts.read_sealed(path) == {"x": [1, 2.5, None], "3": "ü", "20": True}
    for damaged in flipped(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"a\.json is damaged"):
            artifacts.read_sealed(path)


def test_data_of_an_earlier_version_are_not_sealed_and_are_read(tmp_path):
    artifacts.write_json(tmp_path / "a.json", {"offset": 3})
    assert artifacts.read_sealed(tmp_path / "a.json") == {"offset": 3}


def test_whoever_reads_while_another_writes_sees_a_whole_file_and_a_whole_folder(tmp_path):
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            artifacts.write_sealed(tmp_path / "state.json", {"number": number, "text": "x" * (number % 50)})
            with artifacts.atomic_folder(tmp_path / "page") as folder:
                for name in "abc":
                    (folder / name).write_text(str(number) * (number % 20))

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    try:
        while len(seen) < 200:
            if (tmp_path / "state.json").exists():
                seen.add(artifacts.read_sealed(tmp_path / "state.json")["number"])
                artifacts.verified(tmp_path / "page")
    finally:
        stop.set()
        writer.join()
