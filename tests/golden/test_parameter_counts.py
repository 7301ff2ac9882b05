"""The networks of five published write-ups: what they print, and what their figures imply."""

import pytest
import torch

from pipeline.config import parse
from pipeline.models.build import build
from pipeline.models.plan import plan

POOL2, AVG2 = {"kind": "max", "kernel": 2}, {"kind": "avg", "kernel": 2}
R000 = {
    "conv": [
        {"out": 16, "kernel": 7, "padding": 0, "pool": {"kernel": 3, "stride": 1}},
        {"out": 8, "kernel": 5, "padding": 0, "pool": {"kernel": 3, "stride": 1}},
        {"out": 4, "kernel": 3, "padding": 0, "pool": AVG2},
    ]
}
R000_PADDED = {
    "conv": [{"out": 16, "kernel": 7, "pool": POOL2}, {"out": 8, "kernel": 5, "pool": POOL2}, {"out": 4, "kernel": 3}],
}
R001 = {
    "conv": [
        {"out": 16, "kernel": 7, "pool": POOL2},
        {"out": 8, "kernel": 5, "pool": POOL2},
        {"out": 4, "kernel": 3, "stride": 2, "pool": AVG2},
    ]
}
R002_MLP = {"dense": [{"out": 128}, {"out": 64}], "dropout": 0.3}
R002_CNN = {"conv": [{"out": 4, "pool": POOL2}, {"out": 4, "pool": POOL2}], "batch_norm": True}
R003 = {
    "conv": [
        {"out": 10, "kernel": 5, "padding": 0, "pool": POOL2},
        {"out": 20, "kernel": 5, "padding": 0, "pool": POOL2, "dropout": 0.5},
    ],
    "dense": [{"out": 50}],
    "output": "log_softmax",
}
R004_SIGMOID = {"dense": [{"out": 128}, {"out": 64}], "activation": "sigmoid", "output": "sigmoid"}
R004_ARCH1 = {
    "conv": [{"out": 16, "kernel": 5, "stride": 2, "padding": 0}, {"out": 8, "kernel": 3, "padding": 0}],
    "output": "sigmoid",
}

CASES = [
    ("000, ten digits", R000, 10, 5750),
    ("000, four classes", R000, 4, 4880),
    ("000 as its text describes it, with the 13 x 13 features that it implies", R000_PADDED, 10, None),
    ("001, ten digits", R001, 10, 4470),
    ("001, four classes", R001, 4, 4368),
    ("001 with batch norm", R001 | {"batch_norm": True}, 10, 4470 + 2 * (16 + 8 + 4)),
    ("002, perceptron", R002_MLP, 10, 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
    ("002, convolutions", R002_CNN, 10, (36 + 4 + 8) + (144 + 4 + 8) + 196 * 10 + 10),
    ("003", R003, 10, 21_840),
    ("004, perceptron", R004_SIGMOID, 10, 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
    ("004, architecture 1", R004_ARCH1, 10, (16 * 25 + 16) + (8 * 16 * 9 + 8) + 800 * 10 + 10),
]


@pytest.mark.parametrize(("model", "n_classes", "printed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_plan_counts_what_the_source_prints_and_what_the_built_network_has(model, n_classes, printed):
    section = parse({"model": model}).model
    planned = plan(section, (1, 28, 28), n_classes)
    network = build(section, (1, 28, 28), n_classes, seed=0)
    assert planned.parameters == sum(parameter.numel() for parameter in network.parameters())
    if printed is not None:
        assert planned.parameters == printed
    images = torch.zeros(2, 1, 28, 28)
    for layer, module in zip(planned.layers, network.eval(), strict=True):
        images = module(images)
        assert images.shape == (2, *layer.shape), layer.name
    assert images.shape == (2, n_classes)


def test_003_has_the_four_counts_of_its_summary_table():
    layers = plan(parse({"model": R003}).model, (1, 28, 28), 10).layers
    assert [layer.parameters for layer in layers if layer.parameters] == [260, 5020, 16_050, 510]
