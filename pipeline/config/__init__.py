"""The typed, frozen configuration: ``params.yaml`` parsed once at the edge, passed on section by section."""

from pipeline.config.parsing import ConfigError, load, parse, schema, to_tree
from pipeline.config.sections import (
    SHAPES_TRAINING,
    Augment,
    ConvBlock,
    Data,
    DenseBlock,
    Evaluate,
    Model,
    Params,
    Pool,
    Schedule,
    Study,
    Tracking,
    Train,
)

__all__ = [
    "SHAPES_TRAINING",
    "Augment",
    "ConfigError",
    "ConvBlock",
    "Data",
    "DenseBlock",
    "Evaluate",
    "Model",
    "Params",
    "Pool",
    "Schedule",
    "Study",
    "Tracking",
    "Train",
    "load",
    "parse",
    "schema",
    "to_tree",
]
