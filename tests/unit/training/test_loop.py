import signal
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from pipeline.config import Augment, ConfigError, Schedule, Train, parse
from pipeline.data.dataset import SearchData, Split
from pipeline.training.loop import Training

CPU = torch.device("cpu")
CNN = parse({"model": {"conv": [{"out": 6, "pool": {}}], "dense": [{"out": 12}], "batch_norm": True, "dropout": 0.1}}).model
MLP = parse({"model": {"dense": [{"out": 16}], "dropout": 0.1}}).model
TRAIN = Train(epochs=4, batch_size=16, lr=0.01)


def run(training, path=None, stop_after=None):
    while not training.ended and len(training.history) != stop_after:
        if training.run_epoch() and path:
            training.save(path, note={"any": "thing"})
    return training


def history(training):
    """All but the wall time."""
    return [{**asdict(epoch), "seconds": None} for epoch in training.history]


def same_weights(first, second):
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "nadam"])
@pytest.mark.parametrize("model", [CNN, MLP], ids=["cnn", "mlp"])
def test_every_optimizer_learns_the_stripes(tiny_data, model, optimizer):
    lr = {"sgd": 0.1, "rmsprop": 0.003}.get(optimizer, 0.01)
    training = run(Training(model, replace(TRAIN, optimizer=optimizer, lr=lr, epochs=6), tiny_data, CPU))
    assert max(epoch.validation_accuracy for epoch in training.history) > 0.95


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"precision": "bf16"},
        {"augment": Augment(shift=1, rotation=10.0)},
        {"optimizer": "sgd", "momentum": 0.9, "lr": 0.02},
        {"optimizer": "nadam"},
        {"schedule": Schedule(name="plateau", patience=0, gamma=0.5)},
        {"schedule": Schedule(name="cosine", warmup_epochs=0.5)},
        {"epoch_images": 40, "augment": Augment(shift=1)},
    ],
    ids=lambda change: str(next(iter(change.items()), "plain")),
)
@pytest.mark.parametrize("model", [CNN, MLP], ids=["cnn", "mlp"])
def test_a_training_continued_from_any_epoch_ends_like_one_never_interrupted(tiny_data, tmp_path, model, change):
    train = replace(TRAIN, **change)
    whole = run(Training(model, train, tiny_data, CPU))
    for epoch in (1, 3):
        run(Training(model, train, tiny_data, CPU), tmp_path / "c.safetensors", stop_after=epoch)
        torch.manual_seed(epoch)  # whatever the process did before must not matter
        continued = Training(model, train, tiny_data, CPU)
        assert continued.restore(tmp_path / "c.safetensors") == {"any": "thing"}
        run(continued)
        assert history(continued) == history(whole)
        assert same_weights(continued.finish(), whole.finish())
        assert all(torch.equal(continued.first[name], whole.first[name]) for name in whole.first)


def test_the_same_seed_gives_the_same_history_and_another_seed_another(tiny_data):
    first, again = (run(Training(CNN, TRAIN, tiny_data, CPU)) for _ in range(2))
    other = run(Training(CNN, replace(TRAIN, seed=1), tiny_data, CPU))
    assert history(first) == history(again)
    assert history(first) != history(other)


def test_a_training_killed_at_any_moment_continues_to_the_same_end(tiny_data, tmp_path):
    """A real process, killed for real: once it has said that an epoch is done, that epoch is on disk."""
    tiny_data.write(tmp_path / "data")
    code = f"""
import torch
from pathlib import Path
from pipeline.config import Train, parse
from pipeline.data.dataset import SearchData
from pipeline.training.loop import Training
torch.set_num_threads(1)
model = parse({{"model": {{"dense": [{{"out": 16}}], "dropout": 0.1}}}}).model
train = Train(epochs=10_000, batch_size=16, lr=0.01)
training = Training(model, train, SearchData.read(Path({str(tmp_path / "data")!r})), torch.device("cpu"))
path = Path({str(tmp_path / "c.safetensors")!r})
while True:
    print(training.run_epoch().epoch, flush=True)
    training.save(path)
"""
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(7)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    train = replace(TRAIN, epochs=12)
    continued = Training(MLP, replace(train, epochs=10_000), tiny_data, CPU)
    continued.restore(tmp_path / "c.safetensors")
    assert len(continued.history) >= said[-1] - 1
    assert not list(tmp_path.glob("c.safetensors?*"))
    run(continued, stop_after=len(continued.history) + 1)
    whole = run(Training(MLP, replace(train, epochs=len(continued.history)), tiny_data, CPU))
    assert history(continued) == history(whole)


def test_a_diverging_loss_ends_training_with_the_reason_and_keeps_the_best_finite_weights(tiny_data):
    training = Training(MLP, replace(TRAIN, optimizer="sgd", lr=0.05), tiny_data, CPU)
    training.run_epoch()
    kept = training.best
    training.config = replace(training.config, lr=1e30)
    assert training.run_epoch() is None
    assert training.ended
    assert training.diverged == "the loss was no longer finite in epoch 2, at lr 1e+30"
    weights = training.finish().network.state_dict()
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_a_training_that_diverges_in_its_first_epoch_leaves_its_initial_weights(tiny_data):
    training = Training(MLP, replace(TRAIN, optimizer="sgd", lr=1e30), tiny_data, CPU)
    initial = {name: value.clone() for name, value in training.classifier.network.state_dict().items()}
    assert training.run_epoch() is None
    weights = training.finish().network.state_dict()
    assert all(torch.equal(weights[name], initial[name]) for name in initial)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "multi_margin"])
def test_a_loss_that_explodes_without_overflowing_counts_as_diverged_too(tiny_data, loss):
    training = run(Training(CNN, replace(TRAIN, optimizer="sgd", lr=1e6, loss=loss), tiny_data, CPU))
    assert training.diverged is not None
    assert "at lr 1e+06" in training.diverged


@pytest.mark.parametrize("size", [40, 50, 75, 149])
def test_short_epochs_go_through_all_images_before_any_comes_again(tiny_data, size):
    training = Training(MLP, replace(TRAIN, epoch_images=size), tiny_data, CPU)
    orders = torch.cat([training._order(number, torch.Generator()) for number in range(1, 13)])
    assert len(orders) == 12 * size
    for start in range(0, len(orders) - 149, 150):
        assert sorted(orders[start : start + 150].tolist()) == list(range(150))
    assert orders[:150].tolist() != orders[150:300].tolist()


def test_an_epoch_of_all_images_or_more_is_the_usual_one(tiny_data):
    usual = run(Training(MLP, TRAIN, tiny_data, CPU))
    assert history(run(Training(MLP, replace(TRAIN, epoch_images=150), tiny_data, CPU))) == history(usual)
    assert history(run(Training(MLP, replace(TRAIN, epoch_images=999), tiny_data, CPU))) == history(usual)


def test_early_stopping_waits_for_patience_epochs_without_a_lower_validation_loss(tiny_data):
    training = run(Training(MLP, replace(TRAIN, epochs=60, lr=0.05, early_stopping=3), tiny_data, CPU))
    assert training.stopped_early
    losses = [epoch.validation_loss for epoch in training.history]
    assert len(losses) - 1 - losses.index(min(losses)) == 3


def test_on_a_cpu_the_training_images_are_the_mapped_file_itself(tiny_data, tmp_path):
    tiny_data.write(tmp_path)
    data = SearchData.read(tmp_path)
    training = Training(MLP, TRAIN, data, CPU)
    assert training.train.images.data_ptr() == data.train.images.ctypes.data
    assert isinstance(data.train.images, np.memmap)


def test_a_last_batch_of_one_image_is_left_out_because_batch_norm_has_no_variance_there(tiny_data):
    odd = SearchData(tiny_data.info, Split(tiny_data.train.images[:33], tiny_data.train.labels[:33]), tiny_data.validation)
    model = parse({"model": {"dense": [{"out": 4}], "batch_norm": True}}).model
    assert run(Training(model, replace(TRAIN, epochs=1), odd, CPU)).history


def test_progress_is_told_in_images_of_the_epoch(tiny_data):
    seen = []
    training = Training(MLP, replace(TRAIN, batch_size=1), tiny_data, CPU)
    training.run_epoch(lambda done, total: seen.append((done, total)))
    assert all(0 < done <= total == 150 for done, total in seen)


def test_training_never_touches_the_global_random_numbers(tiny_data):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(Training(CNN, replace(TRAIN, augment=Augment(shift=1)), tiny_data, CPU))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_shift_as_wide_as_the_image_is_refused(tiny_data):
    with pytest.raises(ConfigError, match="must be less than the 12 pixels of an image, got 12"):
        Training(MLP, replace(TRAIN, augment=Augment(shift=12)), tiny_data, CPU)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_epoch_is_told_as_it_is(tiny_data, keep):
    training = run(Training(MLP, replace(TRAIN, epochs=6, lr=0.1, keep=keep), tiny_data, CPU))
    assert training.kept_epoch == {"best": training.best_epoch, "last": 6}[keep]
    training.finish()
    assert training._validate().loss == training.history[training.kept_epoch - 1].validation_loss


def test_a_dump_is_the_content_of_the_file_and_either_can_be_loaded(tiny_data, tmp_path):
    training = run(Training(CNN, TRAIN, tiny_data, CPU), stop_after=2)
    training.save(tmp_path / "c.safetensors", note=[1, None])
    assert (tmp_path / "c.safetensors").read_bytes() == training.dump([1, None])
    continued = Training(CNN, TRAIN, tiny_data, CPU)
    assert continued.load(training.dump([1, None])) == [1, None]
    assert history(run(continued)) == history(run(training))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_kept_so_far_are_those_that_finish_gives_and_looking_at_them_changes_nothing(tiny_data, keep):
    train = replace(TRAIN, epochs=6, lr=0.1, keep=keep)
    training, other = (run(Training(MLP, train, tiny_data, CPU), stop_after=3) for _ in range(2))
    kept = training.kept_weights()
    assert all(torch.equal(value, kept[name]) for name, value in other.finish().network.state_dict().items())
    assert history(run(training)) == history(run(Training(MLP, train, tiny_data, CPU)))
