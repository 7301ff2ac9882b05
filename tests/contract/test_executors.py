"""What every executor does, whether its workers are processes of this machine or actors of a Ray cluster."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import faults
import psutil
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.dataset import DatasetInfo
from pipeline.models import classifier
from study.workers.local import Local
from study.workers.protocol import Checkpoint, EpochDone, SegmentDone, SegmentFailed, Slot, Task, WorkerDied
from study.workers.segment import Cache, run

MODEL = {"conv": [{"out": 4, "pool": {}}], "dense": [{"out": 8}], "batch_norm": True, "dropout": 0.1}
TRAIN = {"epochs": 6, "batch_size": 16, "lr": 0.01, "device": "cpu", "augment": {"shift": 1}}
LONG = {**TRAIN, "epochs": 1_000_000}
PATIENCE = 60  # seconds without a word after which a test gives up; a sound one never waits for it
OURS = [Slot(f"cpu {index}", "cpu", "CPU") for index in range(2)]
NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 << 20}
ENGINES = ["local", "ray"]


@pytest.fixture
def data(tiny_data, tmp_path):
    info = replace(tiny_data.info, fingerprint=secrets.token_hex(16))  # no copy of it is anywhere
    replace(tiny_data, info=info).write(tmp_path / "data")
    return str(tmp_path / "data")


@pytest.fixture
def task(data):
    return Task("1", MODEL, TRAIN, data, DatasetInfo.read(Path(data)).fingerprint, checkpoint=None, until=6)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes of one core each, on this machine."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # as the executor: the loopback interface alone
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed: pip install studyline[ray]")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module", params=ENGINES)
def start(request):
    """A function work → executor with two slots."""

    def start(work):
        if request.param == "local":
            return Local(OURS, work)
        from study.workers.ray import Ray

        return Ray(request.getfixturevalue("cluster").address, workers=2, work=work)

    return start


@pytest.fixture(scope="module")
def shared(start):
    """Starting takes a second or two: one executor for all that do not end it."""
    with closing(start(faults.of_its_run)) as executor:
        yield executor


@pytest.fixture
def executor(shared):
    """An executor with two slots, on which nothing runs."""
    while len(shared.slots) < 2:  # what was killed in Ray has its successor placed first
        shared.messages(0.1)
    yield shared
    for slot, worker in list((shared._workers if isinstance(shared, Local) else shared._actors).items()):
        if worker and worker.run:
            shared.kill(slot, "the test is over")
            told(shared, WorkerDied, slot=slot)


def told(executor, until=(SegmentDone, SegmentFailed, WorkerDied), slot=None):
    """Messages, of one slot or of all, up to the first of certain kinds."""
    found, last = [], time.monotonic()
    while time.monotonic() - last < PATIENCE:
        for source, message in executor.messages(1):
            last = time.monotonic()
            if slot is None or source == slot:
                found.append(message)
                if isinstance(message, until):
                    return found
    raise AssertionError(f"no word for {PATIENCE} seconds after {found[-3:]}")


def uninterrupted(task):
    messages = []
    run(task, messages.append, lambda: False, Cache())
    return messages


def without_time(messages):
    return [{**message.epoch, "seconds": None} for message in messages if isinstance(message, EpochDone)]


def test_a_training_tells_each_epoch_in_order_and_ends_with_weights_that_can_be_loaded(executor, task, tiny_data, tmp_path):
    executor.submit(executor.slots[0], replace(task, latency=True))
    *epochs, done = told(executor)
    assert [message.epoch["epoch"] for message in epochs] == [1, 2, 3, 4, 5, 6]
    assert (done.run, done.epoch, done.ended, done.diverged, done.checkpoint) == ("1", 6, True, None, None)
    assert done.latency > 0
    (tmp_path / "model.json").write_bytes(done.card)
    (tmp_path / "weights.safetensors").write_bytes(done.weights)
    network = classifier.load(tmp_path)
    with torch.no_grad():
        right = network(torch.from_numpy(tiny_data.validation.images)).argmax(1).numpy() == tiny_data.validation.labels
    assert right.mean() == pytest.approx(epochs[done.kept_epoch - 1].epoch["validation_accuracy"])


def test_a_segment_continued_on_another_slot_equals_an_uninterrupted_training_bit_for_bit(executor, task):
    whole = uninterrupted(task)
    first, second = executor.slots
    messages, checkpoint = [], None
    for slot, until in ((first, 2), (second, 3), (second, 5), (first, 6)):
        executor.submit(slot, replace(task, checkpoint=checkpoint, until=until))
        messages += told(executor, SegmentDone)
        checkpoint = messages[-1].checkpoint
        assert (messages[-1].epoch, messages[-1].ended) == (until, until == 6)
    assert without_time(messages) == without_time(whole)
    assert messages[-1].weights == whole[-1].weights


def test_two_slots_work_at_the_same_time(executor, task):
    for index, slot in enumerate(executor.slots):
        executor.submit(slot, replace(task, run=str(index), train=LONG, until=1_000_000))
    heard, begun = set(), time.monotonic()
    while heard != {"0", "1"} and time.monotonic() - begun < PATIENCE:
        heard.add(told(executor, EpochDone)[-1].run)
    assert heard == {"0", "1"}  # neither ever ends


def test_a_training_that_is_asked_to_stop_ends_its_segment_at_an_epochs_end_and_can_go_on(executor, task):
    slot = executor.slots[0]
    endless = replace(task, train=LONG, until=1_000_000)
    executor.submit(slot, endless)
    told(executor, EpochDone)
    executor.stop(slot)
    *_, done = told(executor, SegmentDone)
    assert (done.ended, done.diverged) == (False, None)
    executor.stop(slot)  # too late: it must not stop what comes next
    executor.submit(slot, replace(endless, checkpoint=done.checkpoint, until=done.epoch + 20))
    *epochs, further = told(executor, SegmentDone)
    assert [message.epoch["epoch"] for message in epochs] == list(range(done.epoch + 1, done.epoch + 21))
    assert further.epoch == done.epoch + 20


def test_a_worker_that_is_killed_says_why_and_another_takes_its_place(executor, task):
    slot = executor.slots[0]
    executor.submit(slot, replace(task, run="hangs"))
    executor.kill(slot, "no epoch for 30 minutes")
    assert told(executor) == [WorkerDied("hangs", "no epoch for 30 minutes")]
    executor.submit(slot, task)
    assert isinstance(told(executor)[-1], SegmentDone)


@pytest.mark.parametrize("fault", ["is_killed", "leaves", "exits"])
def test_a_worker_that_dies_in_mid_segment_loses_that_segment_only(executor, task, fault):
    first, second = executor.slots
    executor.submit(first, replace(task, run=fault))
    executor.submit(second, replace(task, train=LONG, until=1_000_000))
    *_, died = told(executor, WorkerDied, slot=first)
    assert died.run == fault
    assert died.reason
    executor.submit(first, task)
    assert isinstance(told(executor, slot=first)[-1], SegmentDone)
    told(executor, EpochDone, slot=second)


@pytest.mark.parametrize(
    ("fault", "cause", "reason"),
    [
        ("raises", "exception", "TypeError: unsupported operand: an int and a str"),
        ("takes_too_much_memory", "memory", "out of memory; lower train.batch_size or make the network smaller"),
    ],
)
def test_what_goes_wrong_in_a_training_is_told_and_the_worker_lives_on(executor, task, fault, cause, reason):
    slot = executor.slots[0]
    processes = []
    for name in ("tells_its_process", fault, "tells_its_process"):
        executor.submit(slot, replace(task, run=name))
        (failed,) = told(executor)
        assert failed.run == name
        if name == fault:
            assert failed.cause == cause
            assert failed.reason.startswith(reason)
            assert "Traceback" in failed.trace
        else:
            processes.append(json.loads(failed.reason.partition(": ")[2])["pid"])
    assert processes[0] == processes[1] != os.getpid()


def test_a_training_that_diverges_ends_with_its_reason(executor, task):
    executor.submit(executor.slots[0], replace(task, train={**TRAIN, "optimizer": "sgd", "lr": 1e30}))
    (done,) = told(executor)
    assert (done.epoch, done.ended, done.kept_epoch, done.checkpoint) == (0, True, 0, None)
    assert "in epoch 1, at lr 1e+30" in done.diverged


@pytest.fixture
def room(request):
    """Where cores are counted, two more."""
    if request.node.callspec.params["start"] == "local":
        yield
    else:
        cluster = request.getfixturevalue("cluster")
        node = cluster.add_node(**{**NODE, "num_cpus": 2})
        yield
        cluster.remove_node(node)


@pytest.mark.usefixtures("room")
def test_after_close_no_worker_is_left(start, task):
    executor = start(faults.tells_then_hangs)
    for slot in executor.slots:
        executor.submit(slot, task)
    workers = [psutil.Process(told(executor, EpochDone)[-1].epoch["epoch"]) for _ in range(2)]
    executor.close()
    assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []
    executor.close()  # once more does no harm


def test_a_checkpoint_comes_as_often_as_asked_for_and_is_where_a_lost_segment_goes_on(executor, task):
    whole = uninterrupted(task)
    first, second = executor.slots
    executor.submit(first, replace(task, train=TRAIN, save_every=0.0))
    *messages, _ = told(executor, SegmentDone)
    assert [type(message) for message in messages] == [EpochDone, Checkpoint] * 5 + [EpochDone]
    saved = messages[5]
    assert saved.epoch == 3
    executor.submit(second, replace(task, checkpoint=saved.data))
    assert without_time(told(executor, SegmentDone)) == without_time(whole)[3:]


@pytest.mark.parametrize("start", ENGINES[1:], indirect=True)
def test_a_node_that_vanishes_in_mid_trial_costs_one_segment(executor, cluster, task, data):
    """Its successor's actor finds no folder with the data, and gets the arrays from the object store."""
    from study.workers.ray import copy_of

    whole, copy = uninterrupted(task), copy_of(DatasetInfo.read(Path(data)).fingerprint)
    for index, slot in enumerate(executor.slots):
        executor.submit(slot, replace(task, run=str(index), train=LONG, until=1_000_000))
    heard = set()
    while heard != {"0", "1"}:
        heard.add(told(executor, EpochDone)[-1].run)
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    lost = told(executor, WorkerDied)[-1]
    assert "node" in lost.reason
    (left,) = executor.slots  # there is no room for another
    assert left.name != f"ray {lost.run}"
    assert told(executor, EpochDone, slot=left)
    executor.stop(left)
    told(executor, SegmentDone)
    Path(data).rename(Path(data).with_name("elsewhere"))
    cluster.add_node(**NODE)
    while len(executor.slots) < 2:
        executor.messages(0.1)
    (fresh,) = set(executor.slots) - {left}
    executor.submit(fresh, replace(task, run="again"))
    assert without_time(told(executor)) == without_time(whole)
    assert copy.is_dir()
    shutil.rmtree(copy)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("is_killed", "ended by signal 9"),
        ("leaves", "ended with status 7"),
        ("exits", "ended with status 1: nothing more to do"),
        ("loses_its_device", "ended with status 1: RuntimeError: CUDA error: an illegal memory access was encountered"),
    ],
)
def test_a_process_that_died_is_told_with_its_signal_or_status(task, fault, reason):
    with closing(Local(OURS[:1], faults.of_its_run)) as executor:
        executor.submit(OURS[0], replace(task, run=fault))
        (died,) = told(executor)
        assert died.reason.startswith(reason)


def test_a_worker_that_cannot_even_start_is_started_again_only_for_work(data, task, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # where no Python is
    with closing(Local(OURS[:1])) as executor:
        assert told(executor)[-1].run is None
        assert executor.messages(0) == []
        executor.submit(OURS[0], task)
        assert told(executor)[-1].run == "1"


def test_a_worker_sees_its_gpu_alone_and_has_its_threads(task):
    slots = [Slot("cuda 3 (a)", "cuda", "GPU", "GPU-1234"), OURS[0]]
    with closing(Local(slots, faults.tells_its_process, threads=3)) as executor:
        for slot, gpu in zip(slots, ["GPU-1234", ""], strict=True):
            executor.submit(slot, task)
            (failed,) = told(executor)
            seen = json.loads(failed.reason.partition(": ")[2])
            assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"]) == (gpu, "3")


def test_an_interrupt_is_the_coordinators_and_a_kill_from_outside_is_a_death(task):
    with closing(Local(OURS[:1], faults.tells_then_goes_on)) as executor:
        executor.submit(OURS[0], replace(task, train=LONG, until=1_000_000))
        pid = told(executor, EpochDone)[-1].epoch["epoch"]
        os.kill(pid, signal.SIGINT)
        for _ in range(20):
            told(executor, EpochDone)
        os.kill(pid, signal.SIGKILL)
        assert told(executor, WorkerDied)[-1] == WorkerDied("1", "ended by signal 9")


def test_work_for_a_worker_that_is_dead_already_is_lost_without_an_error(task):
    with closing(Local(OURS[:1], faults.tells_its_process)) as executor:
        executor.submit(OURS[0], task)
        pid = json.loads(told(executor)[-1].reason.partition(": ")[2])["pid"]
        os.kill(pid, signal.SIGKILL)
        executor.submit(OURS[0], replace(task, run="2", checkpoint=bytes(10_000_000)))
        assert told(executor)[-1] == WorkerDied("2", "ended by signal 9")


def test_workers_end_with_their_coordinator_in_the_middle_of_an_epoch(task):
    """A real coordinator, killed for real, whose two workers look at nothing."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(faults.__file__).parent)!r})
import faults
from study.workers.protocol import Slot, Task
from study.workers.local import Local
slots = [Slot("cpu 0", "cpu", "CPU"), Slot("cpu 1", "cpu", "CPU")]
executor = Local(slots, faults.tells_then_hangs)
for slot in slots:
    executor.submit(slot, Task("1", {{}}, {{}}, "", "", None, 1))
while True:
    for _, message in executor.messages(60):
        print(message.epoch["epoch"], flush=True)
"""
    coordinator = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert coordinator.stdout is not None
    workers = [psutil.Process(int(coordinator.stdout.readline())) for _ in range(2)]
    coordinator.kill()
    coordinator.communicate()
    assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "study.engine: no Ray cluster at 127.0.0.1:9: Connection refused"),
        (
            "ray://127.0.0.1:9",
            "study.engine: the address of a Ray cluster must be host:port of its head, or auto, got ray://127.0.0.1:9",
        ),
    ],
)
def test_an_address_where_no_cluster_is_is_refused_at_once(address, message):
    from study.workers.ray import Ray

    with pytest.raises(ConfigError, match=message):
        Ray(address)


def test_without_ray_the_remedy_is_told():
    code = "import sys; sys.modules['ray'] = None; from study.workers.ray import Ray; Ray(None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "study.engine: ray is not installed; pip install studyline[ray], or use local" in done.stderr
