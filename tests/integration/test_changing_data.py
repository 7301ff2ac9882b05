"""A folder of images that changes under a running study changes nothing in it."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from projects import Project

from study.state.history import History

SECTIONS = {
    "train": {"epochs": 8, "batch_size": 8},
    "study": {"sampler": "random", "trials": 4, "workers": 1, "finalists": {"top": 1, "seeds": 2}},
}


def add(folder: Path, numbers) -> None:
    for number in numbers:
        pixels = np.random.default_rng([number, folder.name == "cat"]).integers(0, 256, (8, 8), dtype=np.uint8)
        pixels[: 2 + 4 * (folder.name == "cat")] //= 4
        Image.fromarray(pixels).save(folder / f"{number}.png")


def project(root: Path, pictures: Path) -> Project:
    for label in ("cat", "dog"):
        (pictures / label).mkdir(parents=True)
        add(pictures / label, range(60))
    data = {"name": "image_folder", "path": str(pictures), "image_size": 8, "limit": None}
    return Project(root, data=data, **SECTIONS)


def outcome(history: History) -> dict[str, object]:
    """All that a study found out, without times."""
    runs = {
        key: (run.config, run.state, run.values, [replace(epoch, seconds=0, time=0) for epoch in run.epochs])
        for key, run in history.runs.items()
    }
    test = history.test and replace(history.test, openings=1, summary="")
    return {"runs": runs, "winner": history.winner, "test": test, "fingerprint": history.spec.fingerprint}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, object]:
    root = tmp_path_factory.mktemp("undisturbed")
    made = project(root, root / "pictures")
    ended = made.run()
    assert ended.returncode == 0, ended.stderr
    return outcome(made.history)


@pytest.fixture
def disturbed(tmp_path):
    made = project(tmp_path / "b", tmp_path / "b/pictures")
    yield made
    made.close()


def test_images_that_come_go_and_change_while_a_study_runs_change_nothing_in_it(undisturbed, disturbed) -> None:
    pictures = disturbed.root / "pictures"
    process = disturbed.start()
    disturbed.await_events("epoch", 3)
    add(pictures / "cat", range(60, 90))  # it grows, and a second study begins on what is there now
    short = ("--set", "train.epochs=1", "--set", "study.finalists.top=0")
    second = disturbed.study("run", "--name", "second", "--trials", "1", *short)
    assert second.returncode == 0, second.stderr
    for number in range(20):  # it shrinks
        (pictures / "dog" / f"{number}.png").unlink()
    shutil.copyfile(pictures / "dog/30.png", pictures / "cat/31.png")  # an image becomes another
    workers = [child for child in psutil.Process(process.pid).children() if "workers/process.py" in " ".join(child.cmdline())]
    for worker in workers:  # whoever takes its place opens the data anew
        os.kill(worker.pid, signal.SIGKILL)
    assert process.wait(300) == 0, disturbed.log
    assert outcome(disturbed.history) == undisturbed

    more = disturbed.run("--trials", "5")
    assert more.returncode == 2
    assert "mine exists with another definition; set it back, or start another study with --new" in more.stderr
    assert "\n  fingerprint of the images: " in more.stderr
    assert outcome(disturbed.history) == undisturbed


def test_damaged_images_stop_a_running_study_with_one_line_and_once_restored_it_goes_on(disturbed) -> None:
    process = disturbed.start()
    disturbed.await_events("epoch", 2)
    search = Path(disturbed.history.lineage.data)
    sound = (search / "train_images.npy").read_bytes()
    (search / "train_images.npy").unlink()  # workers that have it open keep it as it was
    (search / "train_images.npy").write_bytes(sound[:-1] + bytes([sound[-1] ^ 4]))
    for worker in psutil.Process(process.pid).children():
        if "workers/process.py" in " ".join(worker.cmdline()):
            os.kill(worker.pid, signal.SIGKILL)
    assert process.wait(300) == 1
    (line,) = [line for line in disturbed.log.splitlines() if line.startswith("error: ")]
    assert f"{search}/train_images.npy is damaged" in line
    assert not [run for run in disturbed.history.trials if run.state == "FAIL"]
    refused = disturbed.run()
    assert refused.returncode == 1
    assert "train_images.npy is damaged" in refused.stderr.splitlines()[-1]
    (search / "train_images.npy").write_bytes(sound)
    ended = disturbed.run()
    assert ended.returncode == 0, ended.stderr
    assert disturbed.history.count("COMPLETE") == 4


def test_a_damaged_checkpoint_begins_its_training_anew_and_ends_with_the_same_numbers(undisturbed, disturbed) -> None:
    process = disturbed.start()
    disturbed.await_events("epoch", 4)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, disturbed.log
    (checkpoint,) = disturbed.folder.glob("runs/*/checkpoint.safetensors")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 16
    checkpoint.write_bytes(content)
    ended = disturbed.run()
    assert ended.returncode == 0, ended.stderr
    assert f"run {checkpoint.parent.name}: its checkpoint is damaged; it trains again from the start" in ended.stdout
    assert outcome(disturbed.history) == undisturbed
