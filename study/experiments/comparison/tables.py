"""Tables of a comparison: for its page, the terminal and the files beside the page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import itemgetter

from pipeline.evaluation.statistics import p_text
from pipeline.report import formats
from pipeline.report.formats import signed
from pipeline.report.table import Cell, Column, Table
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import Contrast
from study.experiments.comparison.settings import Setting
from study.experiments.comparison.sides import Side
from study.experiments.comparison.verdicts import between

HOLM = "corrected for all sides by Holm's method"


def accuracy(comparison: Comparison) -> Table:
    """Table each side's accuracy, and what separates it from the first."""
    images, several = comparison.first.images.validation, len(comparison.contrasts) > 1
    contrasts = {side.label: comparison.contrast_of(side) for side in comparison.sides}

    def test(side: Side) -> str:
        item = contrasts[side.label]
        if item is None:
            return "reference" if side is comparison.first else "other images"
        return f"paired t, {len(item.pairs)} seeds" if item.seeds else "McNemar"

    def main(name: str, side: Side) -> float | None:
        item = contrasts[side.label]
        return getattr(item.main, name) if item else None

    columns = [
        Column("side", "Side", lambda side: side.label),
        Column("n", "n", lambda side: len(side.trainings)),
        Column("accuracy", "Validation", lambda side: side.accuracy.value,
               lambda share: formats.percent(share, formats.digits_for(images))),
        Column("interval", "95 % interval", lambda side: side.accuracy.interval(images)),
        Column("difference", "Minus the first", partial(main, "value"), signed),
        Column("difference_interval", "95 % interval",
               lambda side: (item := contrasts[side.label]) and between(item.main)),
        Column("p", "p", partial(main, "p_value"), p_text),
        *([Column("p_holm", "p, Holm", lambda side: (item := contrasts[side.label]) and item.p_holm, p_text, HOLM)]
          if several else []),
        Column("test", "Test", test),
    ]  # fmt: skip
    if not comparison.contrasts:
        columns = columns[:4]
    notes = [f"Not compared image by image: {formats.sentence(why)}" for why in comparison.left_out.values()]
    return Table("accuracy", "Accuracy", columns, comparison.sides, notes=notes, style="board")


def checkpoints(comparison: Comparison) -> Table:
    """Table each pair of networks on the same images."""
    columns = [
        Column("first", "First", lambda pair: pair.first.name),
        Column("second", "Second", lambda pair: pair.second.name),
        Column("first_seed", None, lambda pair: pair.first.seed),
        Column("second_seed", None, lambda pair: pair.second.seed),
        Column("both_right", "Both right", lambda pair: pair.both_right, formats.count),
        Column("only_first_right", "Only first", lambda pair: pair.test.only_second, formats.count),
        Column("only_second_right", "Only second", lambda pair: pair.test.only_first, formats.count),
        Column("both_wrong", "Both wrong", lambda pair: pair.both_wrong, formats.count),
        Column("difference", "Difference", lambda pair: pair.test.value, signed),
        Column("low", None, lambda pair: pair.test.low),
        Column("high", None, lambda pair: pair.test.high),
        Column("", "95 % interval", lambda pair: pair.test, between),
        Column("p_value", "p", lambda pair: pair.test.p_value, p_text),
    ]
    return Table(
        "checkpoints", "Checkpoints", columns, [pair for item in comparison.contrasts for pair in item.pairs], style="board"
    )


def settings(comparison: Comparison) -> Table:
    """Table the settings in which the sides differ."""

    def value(index: int, setting: Setting) -> Cell:
        return _code(setting.values[index])

    columns = [Column("setting", "Setting", lambda setting: _code(setting.key))]
    columns += [Column(side.label, side.label, partial(value, index)) for index, side in enumerate(comparison.sides)]
    notes = (
        "Keys of params.yaml. Of a block of layers only what differs is given, all of it where others have no such block (–). "
        "Seed, device and threads are left out.",
    )
    return Table("settings", "Settings that differ", columns, comparison.settings, notes=notes)


def _code(text: str) -> Cell:
    return Cell(text, text, style="code")


def classes(item: Contrast) -> Table:
    """Table the recall of each class on both sides."""
    share = partial(formats.percent, digits=1)
    columns = [
        Column("name", "Class", lambda change: change.name),
        Column("images", "Images", lambda change: change.images, formats.count),
        Column("first", item.first.label, lambda change: change.first, share),
        Column("second", item.second.label, lambda change: change.second, share),
        Column("value", "Change", lambda change: change.value, signed),
        Column("low", None, lambda change: change.low),
        Column("high", None, lambda change: change.high),
        Column("", "95 % interval", lambda change: change, between),
        Column("p_value", "p", lambda change: change.p_value, p_text),
        Column("p_holm", "p, Holm", lambda change: change.p_holm, p_text),
    ]
    return Table(f"classes-{item.number}", "Recall per class", columns, item.classes)


def images(comparison: Comparison) -> Table:
    """Table the images that only one network of a pair has right, for the file."""

    def rows() -> Iterator[tuple[object, ...]]:
        for item in comparison.contrasts:
            names, pair = item.first.images.classes, item.pairs[0]
            for one in (*item.only_first, *item.only_second):
                labels = (names[one.label], names[one.first], names[one.second])
                yield (
                    pair.first.name,
                    pair.second.name,
                    one.index,
                    *labels,
                    one.first_probability,
                    one.second_probability,
                    one.pairs,
                )

    keys = (
        "first",
        "second",
        "index",
        "label",
        "first_prediction",
        "second_prediction",
        "first_probability",
        "second_probability",
    )
    columns = [Column(key, None, itemgetter(index)) for index, key in enumerate((*keys, "pairs"))]
    return Table("images", "Images that only one has right", columns, list(rows()))


def trainings(comparison: Comparison) -> Table:
    """Table every training, for the file."""
    keys = ("name", "seed", "state", "accuracy", "epochs", "seconds", "device", "parameters", "multiply_adds", "bytes")
    names = {"name": "training", "accuracy": "validation_accuracy"}

    def value(key: str, row: tuple[Side, object]) -> object:
        content = getattr(row[1], key)
        return len(content) if key == "epochs" else content

    columns = [Column("side", None, lambda row: row[0].label)]
    columns += [Column(names.get(key, key), None, partial(value, key)) for key in keys]
    return Table("trainings", "Trainings", columns, [(side, one) for side in comparison.sides for one in side.trainings])


def cost(comparison: Comparison) -> Table:
    """Table size and time of each side."""

    def epochs(side: Side) -> Cell:
        done, wanted = sorted({len(one.epochs) for one in side.trainings}), side.first.config.train.epochs
        text = f"{done[0]}" if len(done) == 1 else f"{done[0]} to {done[-1]}"
        return Cell(text, text, note=f"of {wanted}" if done != [wanted] else "")

    columns = [
        Column("side", "Side", lambda side: side.label),
        Column("parameters", "Parameters", lambda side: side.first.parameters, formats.count),
        Column("multiply_adds", "Multiply-adds", lambda side: side.first.multiply_adds, formats.count),
        Column("bytes", "Weights", lambda side: side.first.bytes, formats.size),
        Column("epochs", "Epochs", epochs),
        Column("seconds", "Time of a training", lambda side: side.seconds, formats.duration),
        Column("per_epoch", "Per epoch", lambda side: side.seconds_per_epoch, formats.duration),
        Column("devices", "On", lambda side: ", ".join(dict.fromkeys(one.device for one in side.trainings)) or None),
    ]  # fmt: skip
    notes = (
        "Multiply-adds are for one image. Weights is the size of their file. Time is on its device, validation included, mean "
        "over the trainings of a side; trainings that ran beside others, or on another machine, took other times than they "
        "would have alone.",
    )
    return Table("cost", "Cost and size", columns, comparison.sides, notes=notes, style="board")


def lineage(comparison: Comparison) -> Table:
    """Table what each side is, and what it was made from."""

    def commit(side: Side) -> Cell | None:
        text = (side.source.git_commit or "")[:8]
        return Cell(text, text, "code", note="and uncommitted changes" * bool(side.source.git_dirty)) if text else None

    columns = [
        Column("side", "Side", lambda side: side.label),
        Column("what", "What it is", lambda side: side.what),
        Column("trainings", "Trainings",
               lambda side: tuple(Cell(one.name, one.name, link=one.page, note=f"seed {one.seed}") for one in side.trainings)),
        Column("data", "Data",
               lambda side: (Cell("", side.images.name), _code(side.images.fingerprint[:8]))),
        Column("commit", "Commit", commit),
    ]  # fmt: skip
    return Table("lineage", "Lineage", columns, comparison.sides, style="wrap")
