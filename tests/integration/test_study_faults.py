"""What goes wrong in a trial is that trial's end; what goes wrong around it costs no result."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from faults import PLAN, plan
from projects import CLI, FAULTY, SPACE, Project
from ruamel.yaml import YAML

from study.state.history import ENDED


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    made.environ[PLAN] = str(tmp_path)
    yield made
    made.close()


def agree(project: Project) -> None:
    verified = project.study("status", project.name, "--verify")
    assert (verified.returncode, verified.stdout) == (0, "ledger, Optuna and MLflow agree\n"), verified


def test_each_fault_is_the_state_of_its_own_trial_and_the_study_goes_on(project) -> None:
    project.write(study={"trials": 8, "trial_timeout": 6.0})
    plan(project.root, "1", "raises", epoch=1)
    plan(project.root, "2", "takes_too_much_memory")
    plan(project.root, "3", "hangs", epoch=2)
    plan(project.root, "4", "is_killed", epoch=1, times=99)
    plan(project.root, "5", "is_killed", epoch=2, times=1)
    ended = project.run("--set", "train.epochs=4", code=FAULTY)
    assert ended.returncode == 0, ended.stderr
    trials = {run.key: run for run in project.history.trials}
    causes = {key: (run.state, run.cause) for key, run in trials.items()}
    assert causes == {
        **dict.fromkeys("0567", ("COMPLETE", None)),
        "1": ("FAIL", "exception"),
        "2": ("FAIL", "memory"),
        "3": ("FAIL", "hang"),
        "4": ("FAIL", "died"),
    }
    assert trials["1"].reason == "TypeError: unsupported operand: an int and a str"
    assert trials["3"].reason == "no epoch within 6 s (study.trial_timeout)"
    assert "signal 9" in str(trials["4"].reason)
    assert trials["5"].deaths == 1
    assert len(trials["5"].epochs) == 4
    assert "Traceback" in project.study("show", "mine", "--trial", "1").stdout
    agree(project)


def test_a_diverged_trial_fails_with_its_reason(project) -> None:
    ended = project.run("--trials", "4", "--set", "train.optimizer=sgd", "--set", "study.space=wild.yaml")
    assert ended.returncode == 2
    (project.root / "wild.yaml").write_text(
        "description: far too fast\nparameters:\n  train.lr: {low: 1.0e+6, high: 1.0e+9, log: true}\n"
    )
    ended = project.run("--trials", "4", "--set", "train.optimizer=sgd", "--set", "study.space=wild.yaml")
    assert ended.returncode == 0, ended.stderr  # bad values are a result
    assert {(run.state, run.cause) for run in project.history.trials} == {("FAIL", "diverged")}
    assert all("lr" in str(run.reason) for run in project.history.trials)
    agree(project)


def test_three_trials_that_fail_alike_at_the_start_stop_the_study_and_tell_why(project) -> None:
    for key in "0123":
        plan(project.root, key, "raises")
    ended = project.run("--trials", "50", code=FAULTY)
    assert ended.returncode == 1
    assert "the first 3 trials failed alike: TypeError: unsupported operand: an int and a str" in ended.stderr
    assert len(project.history.trials) <= 4
    again = project.run("--trials", "8")  # mended: it goes on to the same total
    assert again.returncode == 0, again.stderr
    states = Counter(run.state for run in project.history.trials)
    assert sum(states.values()) == 8
    assert states["COMPLETE"] >= 4
    agree(project)


def test_ctrl_c_keeps_running_trials_and_the_same_command_goes_on_to_the_same_total(project) -> None:
    process = project.start("--trials", "6", "--set", "train.epochs=40")
    project.await_events("epoch", 5)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, project.log
    assert "study run --name mine" in project.log
    paused = [run for run in project.history.trials if run.state == "PAUSED"]
    assert paused
    before = {run.key: len(run.epochs) for run in paused}
    assert project.run().returncode == 0
    history = project.history
    assert [run.state for run in history.trials] == ["COMPLETE"] * 6
    for key, epochs in before.items():  # it went on from the checkpoint, not from the start
        assert history.runs[key].segments[-1].first == epochs
    agree(project)


def test_ctrl_c_twice_ends_at_once_and_leaves_no_process(project) -> None:
    process = project.start("--trials", "6", "--set", "train.epochs=4000", "--set", "study.trial_timeout=100")
    project.await_events("epoch", 5)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130), project.log
    _, alive = psutil.wait_procs(children, 45)
    assert not alive


def test_ctrl_c_among_the_finalists_keeps_them_too(project) -> None:
    project.write(study={"finalists": {"top": 2, "seeds": 3}}, train={"epochs": 60})
    process = project.start("--trials", "2")
    project.await_events("asked", 3)
    project.await_events("started", 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, project.log
    assert project.history.winner is None
    assert project.run().returncode == 0
    history = project.history
    assert [run.state for run in history.finals] == ["COMPLETE"] * 6
    assert history.winner is not None
    assert history.tested is not None
    assert history.tested.openings == 1
    agree(project)


def test_the_total_of_the_last_session_counts_and_what_one_session_was_told_does_not(project) -> None:
    assert project.run("--trials", "2", "--timeout", "1h").returncode == 0
    assert project.run("--trials", "4").returncode == 0
    assert project.run().returncode == 0  # to the same total, not back to that of the first
    history = project.history
    assert len(history.trials) == 4
    assert history.spec.study.trials == 4
    assert history.spec.study.timeout is None


def test_a_raised_total_asks_the_finalists_anew_and_reads_test_for_another_winner_only(project) -> None:
    project.write(study={"finalists": {"top": 1, "seeds": 2}})
    assert project.run("--trials", "2").returncode == 0
    first = project.history
    assert project.run("--trials", "2").returncode == 0
    assert len([event for event in project.events if event["kind"] == "tested"]) == 1
    assert project.run("--trials", "6").returncode == 0
    last = project.history
    assert first.winner is not None
    assert last.winner is not None
    assert last.tested is not None
    assert last.tested.group == last.winner.group
    assert last.tested.openings == 1 + (last.winner.group != first.winner.group)
    agree(project)


def test_when_the_time_is_up_what_was_begun_is_finished_and_the_rest_is_named(project) -> None:
    ended = project.run("--trials", "400", "--timeout", "4s")
    assert ended.returncode == 0, ended.stderr
    history = project.history
    begun = len(history.trials)
    assert 0 < begun < 400
    assert f"the time is up: {begun} of 400 trials" in ended.stdout
    assert all(run.state in ENDED for run in history.trials)
    agree(project)


def test_values_are_those_of_the_weights_that_are_kept_whatever_stops_a_trial(project) -> None:
    project.write(study={"pruner": "median"}, train={"epochs": 8})
    assert project.run("--trials", "16").returncode == 0
    history = project.history
    assert {run.cause for run in history.trials} == {None, "median"}
    for run in history.trials:
        assert run.kept_epoch is not None
        assert run.best is not None
        assert run.best.epoch == run.kept_epoch
        if run.state == "COMPLETE":
            assert len(run.epochs) == 8
            assert run.values == [run.best.validation_accuracy]
    agree(project)


def test_halving_knows_trials_of_different_length(project) -> None:
    tree = {**SPACE, "parameters": {**SPACE["parameters"], "train.epochs": {"low": 4, "high": 9}}}
    YAML(typ="safe").dump(tree, project.root / "space.yaml")
    project.write(study={"pruner": "asha"})
    assert project.run("--trials", "12").returncode == 0
    complete = [run for run in project.history.trials if run.state == "COMPLETE"]
    assert complete
    assert all(len(run.epochs) == run.config.train.epochs for run in complete)


def test_nobody_looking_on_ends_no_study(project) -> None:
    command = [sys.executable, "-c", CLI, "run", "--name", "mine"]
    with subprocess.Popen(command, cwd=project.root, env=project.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(120)
    assert project.history.sessions[-1]["outcome"] == "done"
    assert all(run.state == "COMPLETE" for run in project.history.trials)


def test_a_checkpoint_that_the_ledger_does_not_know_is_not_believed(project) -> None:
    process = project.start("--trials", "2", "--set", "train.epochs=30")
    project.await_events("epoch", 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, project.log
    path = project.folder / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if '"kind": "epoch"' in line)
    path.write_text("".join(lines[: first + 2]))  # as if the disk had lost the rest
    assert project.run().returncode == 0
    for run in project.history.trials:
        assert [epoch.epoch for epoch in run.epochs] == list(range(1, 31))
        assert run.best is not None
        assert run.best.epoch == run.kept_epoch


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install studyline[ray])")
def test_the_same_command_searches_with_ray(project) -> None:
    ended = project.run("--engine", "ray", "--trials", "3")
    assert ended.returncode == 0, ended.stderr
    assert [run.state for run in project.history.trials] == ["COMPLETE"] * 3
    assert {run.segments[0].slot.split()[0] for run in project.history.trials} == {"ray"}
    agree(project)


def test_study_stop_is_ctrl_c_from_another_terminal(project) -> None:
    process = project.start("--trials", "5000", "--set", "train.epochs=40")
    project.await_events("epoch", 5)
    stopped = project.study("stop", "mine")
    assert stopped.returncode == 0, stopped.stderr
    assert "go on with: study run --name mine" in stopped.stdout
    assert process.wait(60) == 0
    assert project.history.sessions[-1]["outcome"] == "stopped"


def test_a_second_run_of_a_running_study_is_refused_and_doubles_nothing(project) -> None:
    process = project.start("--trials", "4", "--set", "train.epochs=30")
    project.await_events("epoch", 2)
    second = project.run("--trials", "4")
    assert second.returncode == 1
    assert "mine is running already" in second.stderr
    assert process.wait(120) == 0, project.log
    assert len(project.history.trials) == 4
    agree(project)


def test_asking_for_more_goes_on_and_asking_for_less_does_nothing(project) -> None:
    assert project.run("--trials", "3").returncode == 0
    assert project.run("--trials", "5").returncode == 0
    assert [run.trial for run in project.history.trials] == [0, 1, 2, 3, 4]
    assert project.run("--trials", "2").returncode == 0
    assert len(project.history.trials) == 5
    agree(project)


def test_another_definition_is_refused_with_the_difference_and_new_begins_another(project) -> None:
    assert project.run("--trials", "2").returncode == 0
    refused = project.run("--trials", "4", "--set", "train.batch_size=64")
    assert refused.returncode == 2
    assert "train.batch_size: 32 in the study, 64 asked for" in refused.stderr
    assert "--new" in refused.stderr
    begun = project.run("--trials", "2", "--set", "train.batch_size=64", "--new")
    assert begun.returncode == 0, begun.stderr
    assert (project.root / "studies" / "mine-2").is_dir()
    listing = project.study("list")
    assert "mine-2" in listing.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.nonsense=1"], "train.nonsense: no such key"),
        (["--set", "train.lr=-1"], "train.lr: must be greater than 0"),
        (["--set", "train.lr"], "--set must be KEY=VALUE"),
        (["--space", "nowhere.yaml"], "nowhere.yaml"),
        (["--timeout", "soon"], "study.timeout: must be a time like 90m"),
        (["--seed-from", "nobody"], "there is no such study"),
        (["--sampler", "magic"], "study.sampler"),
        (["--trials", "0"], "must be a whole number >= 1"),
        (["--storage", "oracle://x"], "sqlite"),
    ],
)
def test_bad_usage_ends_with_status_2_one_line_and_no_study(project, arguments, message) -> None:
    ended = project.run(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert project.study("list").stdout == "no study yet; `study run` begins one\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_stops_nothing_for_good(project, tmp_path) -> None:
    small = tmp_path / "studies"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        filler = small / "filler"
        process = project.start("--trials", "12", "--set", "train.epochs=6")
        project.await_events("ended", 2)
        with suppress(OSError):
            fill(filler)
        await_text(project, "make room")
        filler.unlink()
        assert process.wait(120) == 0, project.log
        history = project.history
        assert [run.state for run in history.trials] == ["COMPLETE"] * 12
        assert all(run.state in ENDED for run in history.trials)
        agree(project)
    finally:
        project.close()
        subprocess.run(["umount", "-l", str(small)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def await_text(project: Project, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in project.log:
        assert time.monotonic() < deadline, project.log
        time.sleep(0.02)
