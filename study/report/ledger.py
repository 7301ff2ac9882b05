"""What the pages of all plans and studies say of a ledger: its cost, what it was made from, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.document import Key
from pipeline.report.table import Cell, Column, Table, code, pairs, text
from study.report.cost import Cost, kind_of
from study.report.facts import WORDS
from study.state.history import History, Run

Pages = Callable[[Run], str | None]  # the address of a run's page in MLflow, None where it has none


def device_time(cost: Cost) -> Key:
    seconds = sum(cost.device.values())
    slots = formats.plural(len(cost.slots), "slot") or "no slot"
    return Key("Device time", seconds, formats.duration(seconds), f"on {slots}")


def cost_tables(history: History, cost: Cost) -> tuple[Table, Table]:
    """``costs``: device seconds by what became of the trainings; ``slots``: busy time of each slot, and its share."""
    kinds = [
        (kind, [run for run in history.runs.values() if kind_of(run) == kind], seconds)
        for kind, seconds in sorted(cost.device.items(), key=lambda item: -item[1])
    ]
    costs = [
        Column("kind", "Trainings", lambda row: WORDS.get(row[0], row[0])),
        Column("runs", "Runs", lambda row: len(row[1]), formats.count),
        Column("epochs", "Epochs", lambda row: sum(len(run.epochs) for run in row[1]), formats.count),
        Column("seconds", "Device time", lambda row: row[2], formats.duration),
    ]
    runs = [run for _, some, _ in kinds for run in some]
    total = [len(runs), sum(len(run.epochs) for run in runs)]
    foot = ("All", *map(formats.count, total), formats.duration(sum(cost.device.values())))
    slots = [
        Column("slot", "Slot", lambda row: row[0]),
        Column("busy", "Busy", lambda row: row[1][0], formats.duration),
        Column("there", "Of", lambda row: row[1][1], formats.duration),
        Column("share", "Utilisation", lambda row: row[1][0] / row[1][1] if row[1][1] > 0 else None,
               lambda share: formats.percent(share, 0)),
    ]  # fmt: skip
    return Table("costs", "Device time by state", costs, kinds, foot=foot), Table(
        "slots", "Slots", slots, list(cost.slots.items())
    )


def lineage(
    history: History, *, before: Sequence[tuple[str, Cell]] = (), others: Sequence[tuple[str, Cell]] = (), seeds: tuple[str, str]
) -> Table:
    """What a ledger was made from; ``before`` and ``others`` are rows of the page's own, ``seeds`` a text and a note."""
    origin, dataset = history.lineage, history.lineage.dataset
    train, validation = (dataset.images[name] for name in ("train", "validation"))
    hosts = sorted({event["host"] for event in history.sessions if event["kind"] == "opened"})
    versions = ", ".join(f"{name} {version}" for name, version in origin.environment.items())
    commit, dirty = origin.git_commit or "not in a git repository", "with uncommitted changes" * bool(origin.git_dirty)
    rows = [
        ("Study", code(history.spec.name)),
        *before,
        ("Data", text(dataset.name, f"{train:,} training, {validation:,} validation images")),
        ("Data fingerprint", code(history.spec.fingerprint)),
        *others,
        ("Git commit", code(commit, dirty)),
        ("Seeds", text(f"{seeds[0]}, split {dataset.split_seed}", seeds[1])),
        ("Environment", text(versions)),
        ("Machines", text(", ".join(hosts) or formats.NOTHING)),
        ("Begun with", code(command(history) or formats.NOTHING)),
    ]
    return pairs("lineage", "Lineage", rows)


def command(history: History) -> str:
    """What was typed first, without passwords."""
    return without_password(history.lineage.command)


def checkout(history: History) -> list[str]:
    """The command that brings back the code; none where it is not known."""
    commit = history.lineage.git_commit
    return [f"git checkout {commit}"] if commit else []


def reproduce(title: str, commands: Sequence[str], note: str) -> dict[str, str]:
    """What ``shared/lineage.html.jinja`` says below the table."""
    again = "The same seed on the same device gives each training's history again, bit by bit."
    return {"title": title, "commands": "\n".join(commands), "note": f"{again} {note}"}
