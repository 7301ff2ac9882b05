"""The loss curve of a fixed training, so that a change of the code that changes the mathematics is seen."""

import numpy as np
import pytest
import torch

from pipeline.config import Train, parse
from pipeline.training.loop import Training

MODEL = {"conv": [{"out": 4, "pool": {}}], "dense": [{"out": 8}], "batch_norm": True, "activation": "elu"}


def test_the_loss_curve_is_the_one_that_a_plain_loop_gives(tiny_data):
    """The oracle is the loop that anybody would write, on the same order of images."""
    train = Train(epochs=3, batch_size=10, lr=0.005, optimizer="sgd", momentum=0.9)
    model = parse({"model": MODEL}).model
    ours = Training(model, train, tiny_data, torch.device("cpu"))
    usual = Training(model, train, tiny_data, torch.device("cpu")).classifier.network  # the same initial weights
    optimizer = torch.optim.SGD(list(usual.parameters()), 0.005, momentum=0.9)
    images = torch.from_numpy((tiny_data.train.images / 255 - tiny_data.info.mean[0]) / tiny_data.info.std[0]).float()
    labels = torch.from_numpy(tiny_data.train.labels)
    for number in (1, 2, 3):
        record = ours.run_epoch()
        own = np.random.SeedSequence([0, number]).generate_state(2, np.uint64)[0]
        order = torch.randperm(150, generator=torch.Generator().manual_seed(int(own)))
        losses = []
        usual.train()
        for batch in order.split(10):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(usual(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert record.train_loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_the_loss_curve_is_the_one_recorded_when_this_test_was_written(tiny_data):
    """To 1 %: rounding differs between processors."""
    training = Training(parse({"model": MODEL}).model, Train(epochs=4, batch_size=10, lr=0.005), tiny_data, torch.device("cpu"))
    while not training.ended:
        training.run_epoch()
    assert [epoch.train_loss for epoch in training.history] == pytest.approx([0.41491, 0.19009, 0.11724, 0.09707], rel=0.01)
