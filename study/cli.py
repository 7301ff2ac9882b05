"""``study …``: search, look, promote. Each command is a thin main over a module of its name."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import ConfigError
from pipeline.errors import one_line_errors

MANUAL = """\
Search hyperparameters with Optuna, record every trial in MLflow, confirm the winner on fresh seeds.

A study lives in studies/NAME; `study run` creates it or goes on with it, whatever ended it: the end, Ctrl-C, a crash.
params.yaml holds the configuration that trials start from, and the defaults of every option (section study).
"""
RUN = """\
Create a study, or go on with it. --trials is the total: asking for 100 after 60 runs 40 more.

Ctrl-C once: running trials keep their checkpoints, exit 0; the same command goes on. Twice: at once.
After the search the best configurations are trained again on fresh seeds (study.finalists), the winner is
chosen by their mean, test is read once, and reports/studies/NAME/index.html is written.

  study run --trials 40                             the space cnn on the data set of params.yaml
  study run --space mlp --set train.epochs=10       another space, fewer epochs
  study run --name mine --space mine.yaml           your own space
  study run --data-limit 1000 --trials 10           a quick look
"""
STATUSES = """\
exit status: 0 done or stopped on request, 1 the work failed, 2 the command or the configuration is wrong"""


def main(argv: Sequence[str] | None = None) -> None:
    """The console script ``study``."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    arguments = parser().parse_args(argv)
    with one_line_errors():
        sys.exit(arguments.command(arguments))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="study", description=MANUAL, epilog=STATUSES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Any, help: str, text: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help,
            description=textwrap.dedent(text) or f"{help[0].upper()}{help[1:]}.",
            epilog=STATUSES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=function)
        return made

    _run_options(command("run", run, "create a study or go on with it", RUN))
    command("list", list_studies, "the studies here, a line each")
    status = command("status", show_status, "how far a study is")
    status.add_argument("name", metavar="NAME")
    status.add_argument("--watch", action="store_true", help="look again every second until it ends or Ctrl-C")
    status.add_argument("--verify", action="store_true", help="compare ledger, Optuna and MLflow; exit 1 where they differ")
    show = command("show", show_run, "one trial: parameters, course, result")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--trial", required=True, metavar="K", help="its number; 12.s0 for a finalist's training")
    best = command("best", show_best, "the best trial, or the Pareto front of several objectives")
    best.add_argument("name", metavar="NAME")
    best.add_argument("--rule", help="with several objectives: one of them, a limit like 'parameters<=5000', or knee")
    stop = command("stop", stop_study, "ask a running study to stop, as Ctrl-C does")
    stop.add_argument("name", metavar="NAME")
    report = command("report", write_report, "write reports/studies/NAME/index.html, also of a running study")
    report.add_argument("name", metavar="NAME")
    promote = command("promote", promote_run, "write the winner into params.yaml, comments kept; then: dvc repro")
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("--trial", metavar="K", help="another trial than the winner")
    trace = command("trace", trace_run, "from a report row, a trial or an MLflow run to data, commit, seed and model")
    trace.add_argument("what", metavar="RUN|NAME/TRIAL|NAME#ROW|current")
    ui = command("ui", browse, "MLflow and the Optuna dashboard on 127.0.0.1, links printed; Ctrl-C ends both")
    ui.add_argument("--port", type=int, default=5000, help="of MLflow; the dashboard takes the next free one")
    return top


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--name", help="of the study; default: data set and space, e.g. digits-cnn")
    run.add_argument("--new", action="store_true", help="start another study where the name is taken")
    run.add_argument("--space", help="cnn, mlp, all or a YAML file")
    run.add_argument("--trials", type=_count, metavar="T", help="in total")
    run.add_argument("--timeout", help="begin no trial after this time: 90m, 2h")
    run.add_argument("--workers", type=_auto_or_count, metavar="auto|K", help="processes that train")
    run.add_argument("--engine", choices=("local", "ray"), help="this machine, or a Ray cluster (RAY_ADDRESS)")
    run.add_argument("--storage", metavar="URL", help="Optuna's database; default sqlite:///study.db")
    run.add_argument("--sampler", help="tpe gp cmaes nsga2 nsga3 qmc random grid")
    run.add_argument("--pruner", help="none median hyperband wilcoxon asha")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of params.yaml, repeatable")
    run.add_argument("--data-limit", type=_count, metavar="N", help="use at most N training + validation images")
    run.add_argument(
        "--seed-from",
        action="append",
        default=[],
        metavar="STUDY|FILE",
        help="try the best points of a study or params.yaml first",
    )


def run(arguments: argparse.Namespace) -> int:
    from study.definition import Request
    from study.search import run

    root = Path.cwd()
    result = run(Request(arguments.name, arguments.new, changes_of(arguments), tuple(arguments.seed_from)), root, os.environ)
    from study.view import best_line

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
        print(history.winner["summary"])
    if history.test:
        print(history.test["summary"])
    if result.reason:
        print(f"{result.reason}; more with: study run --name {name}")
    if result.report:
        print(f"report: {result.report.relative_to(root)}")
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
    from study.status import listing

    Console(highlight=False).print(listing(Path.cwd()))
    return 0


def show_status(arguments: argparse.Namespace) -> int:
    from study import status

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
    from study.status import show_run

    show_run(arguments.name, arguments.trial, Path.cwd())
    return 0


def show_best(arguments: argparse.Namespace) -> int:
    from study.status import show_best

    show_best(arguments.name, arguments.rule, Path.cwd())
    return 0


def stop_study(arguments: argparse.Namespace) -> int:
    from study.coordinator import STOP
    from study.ledger import STUDIES, held
    from study.status import history_of

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
    from study.pages import write_report
    from study.space import Space
    from study.status import history_of

    root = Path.cwd()
    history = history_of(arguments.name, root)
    print(write_report(history, Space.of(history.spec.space, history.spec.tree), root))
    return 0


def promote_run(arguments: argparse.Namespace) -> int:
    from pipeline import artifacts
    from pipeline.data.dataset import DatasetInfo
    from study import promote
    from study.status import history_of, run_of

    root = Path.cwd()
    history = history_of(arguments.name, root)
    run = run_of(history, arguments.trial) if arguments.trial else None
    present = root / artifacts.SEARCH
    fingerprint = DatasetInfo.read(present).fingerprint if (present / "dataset.json").exists() else None
    promotion = promote.plan(history, run, root / "params.yaml", fingerprint)
    promotion.write()
    print(promotion.text)
    return 0


def trace_run(arguments: argparse.Namespace) -> int:
    from study.trace import render, trace

    Console(highlight=False).print(render(trace(arguments.what, Path.cwd())), soft_wrap=True)
    return 0


def browse(arguments: argparse.Namespace) -> int:
    from study.ui import serve

    serve(Path.cwd(), os.environ, arguments.port)
    return 0


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _auto_or_count(text: str) -> int | str:
    return text if text == "auto" else _count(text)
