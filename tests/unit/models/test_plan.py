import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.config import parse
from pipeline.models.build import build
from pipeline.models.plan import MONOTONE, ArchitectureError, plan

ACTIVATIONS = ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"]


def model_of(**keys):
    return parse({"model": keys}).model


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        ([{"out": 4, "kernel": 5, "padding": 0}], "conv1: 5×5 kernel does not fit a 3×3 input"),
        ([{"out": 4, "kernel": 7, "padding": 1}], "conv1: 7×7 kernel does not fit a 3×3 input padded by 1"),
        ([{"out": 4}, {"out": 4, "pool": {"kernel": 4}}], "pool2: 4×4 pooling does not fit a 3×3 input"),
        ([{"out": 4, "kernel": 4}], "conv1: padding same needs an odd kernel, got 4; give the padding as a number"),
    ],
)
def test_an_impossible_architecture_names_layer_size_and_input(conv, message):
    with pytest.raises(ArchitectureError) as caught:
        plan(model_of(conv=conv), (1, 3, 3), 10)
    assert str(caught.value) == message


conv_blocks = st.fixed_dictionaries(
    {
        "out": st.integers(1, 4),
        "kernel": st.sampled_from([1, 3, 5]),
        "stride": st.integers(1, 2),
        "padding": st.sampled_from(["same", 0, 2]),
        "batch_norm": st.booleans(),
        "activation": st.sampled_from(ACTIVATIONS),
        "dropout": st.sampled_from([0.0, 0.5]),
        "pool": st.none() | st.fixed_dictionaries({"kind": st.sampled_from(["max", "avg"]), "kernel": st.integers(1, 3)}),
    }
)


@given(
    conv=st.lists(conv_blocks, max_size=3),
    dense=st.lists(st.fixed_dictionaries({"out": st.integers(1, 5), "batch_norm": st.booleans()}), max_size=2),
    flatten=st.sampled_from(["all", "average"]),
    size=st.integers(4, 20),
)
def test_every_architecture_is_either_refused_or_built_with_the_planned_shapes_and_counts(conv, dense, flatten, size):
    model = model_of(conv=conv, dense=dense, flatten=flatten)
    try:
        planned = plan(model, (1, size, size), 3)
    except ArchitectureError:
        return
    network = build(model, (1, size, size), 3, seed=0).eval()
    assert planned.parameters == sum(parameter.numel() for parameter in network.parameters())
    values = torch.randn(2, 1, size, size)
    for layer, module in zip(planned.layers, network, strict=True):
        values = module(values)
        assert values.shape[1:] == layer.shape


def test_multiply_adds_of_a_convolution_are_counted_as_a_loop_would():
    layer = plan(model_of(conv=[{"out": 6, "kernel": 5, "stride": 2, "padding": 1}]), (3, 11, 9), 10).layers[0]
    outputs = nn.Conv2d(3, 6, 5, 2, 1)(torch.zeros(1, 3, 11, 9))
    assert layer.multiply_adds == sum(3 * 5 * 5 for _ in outputs.flatten())


@pytest.mark.parametrize("activation", sorted(MONOTONE))
def test_max_pooling_before_a_monotone_activation_gives_the_values_of_pooling_after_it(activation):
    model = model_of(conv=[{"out": 3, "pool": {"kernel": 2}, "activation": activation}])
    network = build(model, (1, 8, 8), 2, seed=0)
    names = [name for name, _ in network.named_children()]
    assert names.index("pool1") < names.index("act1")
    images = torch.randn(5, 1, 8, 8)
    usual = network.pool1(network.act1(network.conv1(images)))
    torch.testing.assert_close(network.act1(network.pool1(network.conv1(images))), usual, rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_max_pooling_stays_behind_an_activation_that_is_not_monotone(activation):
    layers = plan(model_of(conv=[{"out": 3, "pool": {"kernel": 2}, "activation": activation}]), (1, 8, 8), 2).layers
    assert [layer.name for layer in layers[:3]] == ["conv1", "act1", "pool1"]


def test_a_block_overrides_what_the_network_says_and_leaves_the_rest():
    model = model_of(
        dense=[{"out": 5}, {"out": 4, "activation": "tanh", "batch_norm": False, "dropout": 0.0}],
        activation="elu",
        batch_norm=True,
        dropout=0.25,
    )
    kinds = [layer.kind for layer in plan(model, (1, 4, 4), 2).layers]
    assert kinds == ["flatten", "linear", "norm1d", "elu", "dropout", "linear", "tanh", "linear"]


def test_the_initial_weights_depend_on_the_seed_alone_and_leave_the_global_generator_as_it_was():
    model = model_of(conv=[{"out": 3}], dense=[{"out": 5}])
    state = torch.get_rng_state()
    first, again, other = (build(model, (1, 8, 8), 2, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
