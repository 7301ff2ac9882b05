"""Every key of ``params.yaml`` as a frozen object: type, range and meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.epochs import MEASURES

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
SHAPES_TRAINING = ("data", "model", "train")  # the sections that decide what a training computes

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"]
DataName = Literal["digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "image_folder"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """The data set and its splits."""

    name: DataName = "digits"
    """data set; digits comes with scikit-learn and needs no network"""
    path: Text = "data/images"
    """image_folder only: a folder with one sub-folder per class, or with train/ and test/ folders of such"""
    mirror: Text | None = None
    """folder or URL tried before the public mirrors; null: the variable STUDYLINE_MIRROR, then the public ones"""
    image_size: Annotated[int | None, Field(ge=4, le=1024)] = None
    """pixels, height and width; null: the data set's own (28, cifar10 32, image_folder 28)"""
    channels: Literal[1, 3] | None = None
    """1 grey or 3 colour; null: the data set's own (1, cifar10 3, image_folder 1)"""
    validation: Fraction = 0.1
    """fraction of the training images held out for validation, in (0, 1)"""
    test: Fraction = 0.2
    """fraction held out for test where the data set has no official test images, in (0, 1)"""
    merge: Annotated[tuple[Annotated[tuple[Whole, ...], Field(min_length=1)], ...] | None, Field(min_length=2)] = None
    """groups of class indices, each group becoming one class, every class in exactly one; null: as they are"""
    limit: Annotated[int | None, Field(ge=10)] = None
    """at most this many training + validation images, and as many test images, for quick looks; null: all"""
    seed: Seed = 0
    """seed of the split, >= 0"""

    @model_validator(mode="after")
    def _each_class_once(self) -> Self:
        members = [label for group in self.merge or () for label in group]
        twice = sorted({label for label in members if members.count(label) > 1})
        if twice:
            raise ValueError(f"merge must name every class once, got {', '.join(map(str, twice))} twice")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pool:
    """Pooling at the end of a convolution block."""

    kind: Literal["max", "avg"] = "max"
    """max or avg"""
    kernel: Count = 2
    """pixels"""
    stride: Annotated[int | None, Field(ge=1)] = None
    """pixels; null: the kernel"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConvBlock:
    """Convolution, then optional batch norm, activation, pooling and dropout."""

    out: Count
    """output channels"""
    kernel: Count = 3
    """pixels, square"""
    stride: Count = 1
    """pixels"""
    padding: Literal["same"] | Whole = "same"
    """pixels of zeros on each side; same: output = input / stride rounded up, odd kernels only"""
    batch_norm: bool | None = None
    """null: model.batch_norm"""
    activation: Activation | None = None
    """null: model.activation"""
    pool: Pool | None = None
    """null: none"""
    dropout: Probability | None = None
    """probability of dropping a whole channel, in [0, 1); null: model.dropout"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DenseBlock:
    """Linear layer, then optional batch norm, activation and dropout."""

    out: Count
    """units"""
    batch_norm: bool | None = None
    """null: model.batch_norm"""
    activation: Activation | None = None
    """null: model.activation"""
    dropout: Probability | None = None
    """probability of dropping a unit, in [0, 1); null: model.dropout"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """An architecture as data: convolution blocks, dense blocks, and a linear layer to the classes."""

    conv: tuple[ConvBlock, ...] = ()
    """convolution blocks, first to last; [] for a multi-layer perceptron"""
    dense: tuple[DenseBlock, ...] = ()
    """hidden dense blocks, first to last"""
    flatten: Literal["all", "average"] = "all"
    """what follows the last convolution block: all its values, or one average per channel"""
    activation: Activation = "relu"
    """of every block without its own activation: relu leaky_relu elu gelu silu tanh sigmoid none"""
    batch_norm: bool = False
    """in every block without its own batch_norm"""
    dropout: Probability = 0.0
    """in every block without its own dropout, in [0, 1)"""
    output: Literal["logits", "log_softmax", "sigmoid"] = "logits"
    """what follows the last linear layer; nll needs log_softmax"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Schedule:
    """The learning-rate schedule; train.lr is its peak."""

    name: Literal["none", "step", "cosine", "exponential", "one_cycle", "plateau"] = "none"
    """none step cosine exponential one_cycle plateau"""
    step_size: Count = 5
    """step: epochs between drops"""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """step, plateau: factor of a drop; exponential: factor per epoch; in (0, 1]"""
    patience: Whole = 2
    """plateau: epochs without a lower validation loss before a drop"""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """epochs of linear rise from 0 to train.lr; one_cycle has a rise of its own"""

    @model_validator(mode="after")
    def _one_cycle_warms_up_itself(self) -> Self:
        if self.name == "one_cycle" and self.warmup_epochs:
            raise ValueError("warmup_epochs must be 0 with one_cycle, which has a rise of its own")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Augment:
    """Random changes to each training image, new in each epoch, on the device."""

    shift: Whole = 0
    """at most this many pixels in each direction"""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """at most this many degrees either way"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Train:
    """The settings of a training."""

    epochs: Count = 10
    """passes over the training images, or over epoch_images of them"""
    epoch_images: Annotated[int | None, Field(ge=2)] = None
    """images per epoch; null: all; fewer: earlier decisions, while epochs still go through all images in turn"""
    batch_size: Count = 20
    """images per step"""
    loss: Literal["cross_entropy", "nll", "mse", "multi_margin"] = "cross_entropy"
    """cross_entropy nll mse (against one-hot labels) multi_margin"""
    label_smoothing: Probability = 0.0
    """cross_entropy only, in [0, 1)"""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "nadam"] = "adam"
    """sgd adam adamw rmsprop nadam"""
    lr: Annotated[float, Field(gt=0)] = 0.001
    """learning rate per step, > 0"""
    momentum: Probability = 0.0
    """sgd and rmsprop, in [0, 1)"""
    nesterov: bool = False
    """sgd with momentum > 0"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty; decoupled with adamw"""
    schedule: Schedule = Schedule()
    """the learning-rate schedule"""
    early_stopping: Annotated[int | None, Field(ge=1)] = None
    """stop after this many epochs without a lower validation loss; null: never"""
    keep: Literal["best", "last"] = "best"
    """weights to keep: of the epoch with the lowest validation loss, or of the last epoch"""
    augment: Augment = Augment()
    """random changes to the training images"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: mixed precision with master weights in fp32, where the device trains the network faster so; else fp32"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a GPU"""
    threads: Count = 1
    """CPU threads; small networks gain nothing from more"""
    seed: Seed = 0
    """of the initial weights, the order of the images, dropout and augmentation"""

    @model_validator(mode="after")
    def _parameters_fit_their_owner(self) -> Self:
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum must be 0 with {self.optimizer}; it belongs to sgd and rmsprop")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum > 0):
            raise ValueError("nesterov needs optimizer sgd and momentum > 0")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f"label_smoothing must be 0 with {self.loss}; it belongs to cross_entropy")
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs must be less than epochs ({self.epochs}), got {self.schedule.warmup_epochs:g}"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluate:
    """The settings of the evaluation; none changes the model."""

    gallery: Annotated[int, Field(ge=0, le=400)] = 32
    """images in each gallery (right, wrong)"""
    samples: Annotated[int, Field(ge=0, le=100)] = 10
    """test images whose outputs are printed class by class"""
    tsne_images: Annotated[int, Field(ge=0, le=10_000)] = 1000
    """test images in the t-SNE pictures; 0: none"""
    calibration_bins: Annotated[int, Field(ge=2, le=100)] = 15
    """bins of the reliability diagram"""
    costs: Annotated[tuple[tuple[Annotated[float, Field(ge=0)], ...], ...] | None, Field(min_length=2)] = None
    """expected_cost of the validation images: a row for each true class, a cost for each predicted one; null: 1 for an error"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tracking:
    """The MLflow store and what is recorded there."""

    uri: Text | None = None
    """MLflow tracking URI; null: the variable MLFLOW_TRACKING_URI, then sqlite:///mlflow.db"""
    experiment: Text = "studyline"
    """MLflow experiment"""
    required: bool = True
    """true: stop if the store cannot be reached; false: warn and continue without it"""
    system_metrics: bool = False
    """also record CPU, memory and GPU load"""
    models: Literal["winners", "all"] = "winners"
    """studies: an MLflow model for the best trial and the finalists, or for all trials; weights are kept of every one"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finalists:
    """The confirmation after a search: the best trials, trained again on fresh seeds."""

    top: Whole = 5
    """configurations to confirm; 0: no confirmation"""
    seeds: Annotated[int, Field(ge=2)] = 5
    """trainings of each, the same seeds for all, >= 2"""


if TYPE_CHECKING:
    Objective = str
else:
    Objective = Literal[(*MEASURES, "parameters", "multiply_adds", "latency")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Study:
    """A hyperparameter study: its space, sampler, pruner and workers."""

    space: Text = "cnn"
    """search space: mlp, cnn, all, or a YAML file"""
    trials: Count = 40
    """trials in total"""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("accuracy",)
    """accuracy loss balanced_accuracy macro_f1 calibration_error expected_cost parameters multiply_adds latency"""
    max_parameters: Annotated[int | None, Field(ge=1)] = None
    """larger networks are not trained, the sampler draws again; null: no limit"""
    sampler: Literal["tpe", "gp", "cmaes", "nsga2", "nsga3", "qmc", "random", "grid"] = "tpe"
    """tpe gp cmaes nsga2 nsga3 qmc random grid"""
    pruner: Literal["none", "median", "hyperband", "wilcoxon", "asha"] = "asha"
    """none median hyperband wilcoxon asha; asha pauses trials at rungs and continues those that it promotes"""
    first_rung: Count = 1
    """asha, hyperband: epochs before the first decision; median: epochs in which no trial is stopped"""
    reduction: Annotated[int, Field(ge=2)] = 3
    """asha, hyperband: one in this many trials continues at each rung"""
    finalists: Finalists = Finalists()
    """the confirmation after the search"""
    workers: Literal["auto"] | Count = "auto"
    """processes that train; auto: per_gpu on every GPU, or without a GPU one per train.threads cores"""
    per_gpu: Literal["auto"] | Count = "auto"
    """processes on each GPU; auto: 2"""
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: a Ray cluster (pip install studyline[ray])"""
    storage: Text | None = None
    """Optuna storage, a database URL; null: the variable STUDYLINE_STORAGE, then sqlite:///study.db"""
    timeout: Text | None = None
    """start no more trials after this time, e.g. 90m or 2h; null: no limit"""
    trial_timeout: Annotated[float, Field(gt=0)] = 1800.0
    """seconds without an epoch after which a trial counts as hanging, > 0"""
    seed: Seed = 0
    """of the sampler and of the trials"""

    @model_validator(mode="after")
    def _objectives_can_be_searched(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives must each be named once")
        if not MEASURES.keys() & set(self.objectives):
            raise ValueError(f"objectives must name one of {' '.join(MEASURES)}")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(f"pruner must be none with several objectives, got {self.pruner}")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Params:
    """The whole of ``params.yaml``."""

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    tracking: Tracking = Tracking()
    study: Study = Study()

    @model_validator(mode="after")
    def _loss_fits_output(self) -> Self:
        if self.train.loss == "nll" and self.model.output != "log_softmax":
            raise ValueError(f"train.loss nll needs model.output log_softmax, got {self.model.output}")
        return self

    @model_validator(mode="after")
    def _batch_norm_has_a_batch(self) -> Self:
        blocks: tuple[ConvBlock | DenseBlock, ...] = (*self.model.conv, *self.model.dense)
        normed = any(self.model.batch_norm if block.batch_norm is None else block.batch_norm for block in blocks)
        if normed and self.train.batch_size == 1:
            raise ValueError("train.batch_size must be at least 2 with batch norm, got 1")
        return self
