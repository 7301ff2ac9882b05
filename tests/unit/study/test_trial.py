import json
from dataclasses import replace

import pytest
import torch

from pipeline import tensors
from pipeline.models import classifier
from study.workers.protocol import Checkpoint, EpochDone, SegmentDone, SegmentFailed, Task
from study.workers.segment import Cache, attempt, run

MODEL = {"dense": [{"out": 16}], "dropout": 0.1}
TRAIN = {"epochs": 6, "batch_size": 16, "lr": 0.01, "device": "cpu"}


@pytest.fixture
def task(tiny_data, tmp_path):
    tiny_data.write(tmp_path / "data")
    return Task("7", MODEL, TRAIN, str(tmp_path / "data"), tiny_data.info.fingerprint, checkpoint=None, until=6)


def segment(task, cache=None, stop_after=None):
    """Epochs without their wall time, checkpoints in between, and the end."""
    messages = []
    run(task, messages.append, lambda: len(messages) == stop_after, cache or Cache())
    epochs = [{**message.epoch, "seconds": None} for message in messages if isinstance(message, EpochDone)]
    return epochs, [message for message in messages if isinstance(message, Checkpoint)], messages[-1]


def without_seconds(checkpoint):
    state, metadata = tensors.unpack(checkpoint)
    for epoch in metadata["history"]:
        epoch["seconds"] = None
    return {name: value.tolist() for name, value in state.items()}, metadata


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_warm_worker_and_a_fresh_one_go_on_to_the_same_bits(task, keep):
    task = replace(task, train={**TRAIN, "keep": keep})
    warm = Cache()
    begun, _, paused = segment(replace(task, until=2), warm)
    kept = warm.training
    on_warm, _, warm_end = segment(replace(task, checkpoint=paused.checkpoint, until=4), warm)
    assert warm.training is kept  # it was not built anew
    on_fresh, _, fresh_end = segment(replace(task, checkpoint=paused.checkpoint, until=4))
    assert on_warm == on_fresh
    assert warm_end.weights == fresh_end.weights
    assert without_seconds(warm_end.checkpoint) == without_seconds(fresh_end.checkpoint)
    whole, _, _ = segment(task)
    assert begun + on_warm == whole[:4]


@pytest.mark.parametrize("change", [{"run": "8"}, {"train": {**TRAIN, "lr": 0.02}}, {"model": {"dense": [{"out": 8}]}}, {}])
def test_a_warm_training_serves_only_what_goes_on_exactly_from_it(task, change):
    warm = Cache()
    segment(replace(task, until=2), warm)
    other = replace(task, until=1, **change)  # from its beginning
    assert segment(other, warm)[0] == segment(other)[0]


def test_an_old_checkpoint_is_trained_again_even_where_a_later_one_is_warm(task):
    warm = Cache()
    _, _, early = segment(replace(task, until=2), warm)
    again = replace(task, checkpoint=early.checkpoint, until=3)
    assert segment(again, warm)[0] == segment(again, warm)[0]


def test_a_segment_whose_epochs_are_done_already_says_so(task):
    _, _, paused = segment(replace(task, until=3))
    epochs, _, done = segment(replace(task, checkpoint=paused.checkpoint, until=3))
    assert (epochs, done.epoch, done.ended) == ([], 3, False)


def test_early_stopping_ends_a_training_before_its_segment(task):
    _, _, done = segment(replace(task, train={**TRAIN, "epochs": 80, "lr": 0.05, "early_stopping": 2}, until=80))
    assert done.ended
    assert done.kept_epoch == done.epoch - 2
    assert done.checkpoint is None


def test_asked_to_stop_it_ends_after_the_epoch_with_its_checkpoint(task):
    epochs, _, done = segment(task, stop_after=2)
    assert (len(epochs), done.epoch, done.ended) == (2, 2, False)
    assert segment(replace(task, checkpoint=done.checkpoint))[0] == segment(task)[0][2:]


def test_a_paused_segment_has_the_weights_kept_so_far(task, tiny_data, tmp_path):
    epochs, _, paused = segment(replace(task, until=3))
    (tmp_path / "model.json").write_bytes(paused.card)
    (tmp_path / "weights.safetensors").write_bytes(paused.weights)
    network = classifier.load(tmp_path)
    with torch.no_grad():
        right = network(torch.from_numpy(tiny_data.validation.images)).argmax(1).numpy() == tiny_data.validation.labels
    assert right.mean() == pytest.approx(epochs[paused.kept_epoch - 1]["validation_accuracy"])
    assert json.loads(paused.card)["classes"] == ["rows", "columns", "square"]


@pytest.mark.parametrize(("save_every", "epochs"), [(0.0, [1, 2, 3, 4, 5]), (3600.0, [])])
def test_checkpoints_come_by_the_time_and_not_with_the_last_epoch(task, save_every, epochs):
    assert [checkpoint.epoch for checkpoint in segment(replace(task, save_every=save_every))[1]] == epochs


def test_latency_is_measured_at_the_end_alone_and_only_where_asked_for(task):
    asked = replace(task, latency=True)
    assert segment(replace(asked, until=3))[2].latency is None
    assert segment(task)[2].latency is None
    assert segment(asked)[2].latency > 0
    assert segment(asked)[2].weights == segment(task)[2].weights


def failing(error):
    def work(task, emit, asked_to_stop, cache):
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (TypeError("one\n  two"), "exception", "TypeError: one two"),
        (KeyError(), "exception", "KeyError"),
        (MemoryError(), "memory", "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "memory", "out of memory; lower train.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory", "out of memory; lower train.batch_size"),
    ],
)
def test_an_error_is_one_line_with_a_cause(task, error, cause, reason):
    messages = []
    attempt(failing(error), task, messages.append, lambda: False, Cache())
    (failed,) = messages
    assert isinstance(failed, SegmentFailed)
    assert (failed.run, failed.cause) == ("7", cause)
    assert failed.reason.startswith(reason)
    assert "\n" not in failed.reason
    assert "Traceback" in failed.trace


def test_after_a_cuda_error_the_process_ends_with_it():
    messages = []
    error = RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")
    with pytest.raises(SystemExit, match="RuntimeError: CUDA error: device-side assert triggered"):
        attempt(failing(error), Task("7", {}, {}, "", "", None, 1), messages.append, lambda: False, Cache())
    assert messages == []


def test_after_a_failure_nothing_is_warm(task):
    warm = Cache()
    _, _, paused = segment(replace(task, until=2), warm)
    assert isinstance(paused, SegmentDone)
    attempt(failing(ValueError()), task, lambda message: None, lambda: False, warm)
    assert warm.training is None
