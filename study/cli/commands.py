"""What each command of ``study`` does: a thin main over a module of its name, and the exit status."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import ConfigError, Params, parse

if TYPE_CHECKING:
    from study.engine.session import Result
    from study.space.space import Space
    from study.state.history import History


def run(arguments: argparse.Namespace) -> int:
    from study.engine.request import Request
    from study.engine.search import run

    root = Path.cwd()

    def report(history: History, space: Space) -> Path:
        from study.report.page import write_report  # matplotlib and its friends take a second that no search shall wait for

        return write_report(history, space, root)

    request = Request(arguments.name, arguments.new, changes_of(arguments), tuple(arguments.seed_from))
    result = run(request, root, os.environ, report)
    from study.engine.live import best_line

    history, name = result.history, result.history.spec.name
    for problem in result.problems:
        print(f"not recorded yet: {problem}", file=sys.stderr)
    if result.outcome == "failed":
        print(f"error: {result.reason}; `study show {name} --trial K` tells more", file=sys.stderr)
        return 1
    print(f"best trial: {best_line(history)}")
    if result.outcome == "stopped":
        print(f"stopped; all is kept. Go on with: study run --name {name}")
        return 0
    if history.winner:
        print(history.winner.summary)
    if history.test:
        print(history.test.summary)
    if result.reason:
        print(f"{result.reason}; more with: study run --name {name}")
    if result.page:
        print(f"report: {result.page.relative_to(root)}")
    if history.winner:
        print(f"promote the winner into params.yaml: study promote {name}")
    return 0


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of ``study run`` as keys of params.yaml."""
    changes: dict[str, Any] = {}
    for item in arguments.set:
        key, sign, text = item.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set must be KEY=VALUE, e.g. train.epochs=5, got {item!r}")
        try:
            changes[key] = YAML(typ="safe").load(text)
        except YAMLError:
            raise ConfigError(f"--set {key}: the value is not valid YAML: {text}") from None
    for option in ("space", "trials", "timeout", "workers", "engine", "storage", "sampler", "pruner"):
        if (value := getattr(arguments, option)) is not None:
            changes[f"study.{option}"] = value
    if arguments.data_limit is not None:
        changes["data.limit"] = arguments.data_limit
    return changes


def list_studies(arguments: argparse.Namespace) -> int:
    from study.cli.status import listing

    Console(highlight=False).print(listing(Path.cwd()))
    return 0


def show_status(arguments: argparse.Namespace) -> int:
    from study.cli import status

    root = Path.cwd()
    if arguments.verify:
        problems = status.verify(arguments.name, root, os.environ)
        print("\n".join(problems) or "ledger, Optuna and MLflow agree")
        return 1 if problems else 0
    if arguments.watch:
        status.watch(arguments.name, root)
    else:
        status.show(arguments.name, root)
    return 0


def show_run(arguments: argparse.Namespace) -> int:
    from study.cli.status import show_run

    show_run(arguments.name, arguments.trial, Path.cwd())
    return 0


def show_best(arguments: argparse.Namespace) -> int:
    from study.cli.status import show_best

    show_best(arguments.name, arguments.rule, Path.cwd())
    return 0


def stop_study(arguments: argparse.Namespace) -> int:
    from study.cli.status import history_of
    from study.state.journal import STOP
    from study.state.ledger import STUDIES, held

    root = Path.cwd()
    history_of(arguments.name, root)
    folder = root / STUDIES / arguments.name
    if not held(folder):
        print(f"{arguments.name} is not running")
        return 0
    (folder / STOP).touch()
    print(f"asked {arguments.name} to stop; its running trials end their epoch first", flush=True)
    while held(folder):
        time.sleep(0.2)
    ended = history_of(arguments.name, root).sessions[-1].get("outcome")
    print("it had just ended" if ended == "done" else f"stopped; go on with: study run --name {arguments.name}")
    return 0


def write_report(arguments: argparse.Namespace) -> int:
    from study.cli.status import history_of
    from study.report.page import write_report
    from study.space.space import Space
    from study.state.errors import UsageError

    root = Path.cwd()
    history = history_of(arguments.name, root)
    if history.spec.kind.plan:
        own = history.command or "study"
        raise UsageError(f"{arguments.name} is no search: its own command writes the report, and trains nothing twice: {own}")
    print(write_report(history, Space.of(history.spec.space, history.spec.tree), root))
    return 0


def promote_run(arguments: argparse.Namespace) -> int:
    from pipeline import artifacts
    from pipeline.data.dataset import DatasetInfo
    from study.cli.status import history_of, run_of
    from study.lineage import promote

    root = Path.cwd()
    history = history_of(arguments.name, root)
    run = run_of(history, arguments.trial) if arguments.trial else None
    present = root / artifacts.SEARCH
    fingerprint = DatasetInfo.read(present).fingerprint if (present / "dataset.json").exists() else None
    promotion = promote.plan(history, run, root / "params.yaml", fingerprint)
    promotion.write()
    print(promotion.text)
    return 0


def settings_of(arguments: argparse.Namespace, root: Path) -> tuple[Params, dict[str, Any]]:
    """How and where a plan is to run: params.yaml with the options given, and these by themselves."""
    from study.engine.request import changed, read_tree

    options = ("timeout", "workers", "engine")
    changes = {f"study.{name}": getattr(arguments, name) for name in options if getattr(arguments, name) is not None}
    return parse(changed(read_tree(root / "params.yaml"), changes)), changes


def reproduce(arguments: argparse.Namespace) -> int:
    from study.experiments.reproduction.command import Asked, listing, reproduce

    root = Path.cwd()
    if arguments.list:
        Console(highlight=False).print(listing(root))
        return 0
    seeds = arguments.seeds or (1 if arguments.quick else 3)
    asked = Asked(tuple(arguments.sources), arguments.all, seeds, arguments.data_limit, arguments.quick)
    return _ended(*reproduce(asked, *settings_of(arguments, root), root, os.environ), root)


def ablate(arguments: argparse.Namespace) -> int:
    from study.experiments.ablation.command import ablate, listing

    root = Path.cwd()
    if arguments.list or not arguments.file:
        Console(highlight=False).print(listing())
        return 0
    limits = {"seeds": arguments.seeds, "limit": arguments.data_limit}
    return _ended(*ablate(arguments.file, limits, *settings_of(arguments, root), root, os.environ), root)


def _ended(carried: Result, page: Path | None, lines: Sequence[str], root: Path) -> int:
    """Say how a plan ended; the exit status."""
    for problem in carried.problems:
        print(f"not recorded yet: {problem}", file=sys.stderr)
    for line in lines:
        print(line)
    if page:
        print(f"report: {page.relative_to(root)}")
    if carried.outcome == "failed":
        print(f"error: {carried.reason}", file=sys.stderr)
        return 1
    if carried.outcome == "stopped" or carried.reason:
        print(f"{carried.reason or 'stopped'}; all is kept, the same command goes on")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    from study.experiments.comparison.comparison import compare
    from study.experiments.comparison.page import write
    from study.experiments.comparison.terminal import render_terminal

    root = Path.cwd()
    comparison = compare(arguments.runs, root, os.environ, arguments.by == "seed-group")
    Console(highlight=False).print(render_terminal(comparison))
    print(f"report: {write(comparison, root).relative_to(root)}")
    return 0


def trace_run(arguments: argparse.Namespace) -> int:
    from study.lineage.names import render, trace

    Console(highlight=False).print(render(trace(arguments.what, Path.cwd())), soft_wrap=True)
    return 0


def browse(arguments: argparse.Namespace) -> int:
    from study.cli.ui import serve

    serve(Path.cwd(), os.environ, arguments.port)
    return 0
