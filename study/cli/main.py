"""Parse ``study …``: commands, options and their help; :mod:`study.cli.commands` does the work."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from pipeline.errors import one_line_errors
from study.cli import commands

MANUAL = """\
Search hyperparameters with Optuna, record every trial in MLflow, and confirm the winner on new seeds; change one factor at
a time; reproduce published systems; compare any runs.

A study is the folder studies/NAME. `study run` creates it or continues it, whether it ended, was stopped or was killed.
params.yaml holds the configuration that trials start from; its section study holds the defaults of all options.
"""
RUN = """\
Create a study, or continue it. --trials is the total: asking for 100 after 60 runs 40 more.

Ctrl-C once: running trials finish their epoch and keep their checkpoints, exit status 0; the same command continues.
Ctrl-C twice: stop at once. After the search the best configurations are trained again on new seeds (study.finalists), the
winner is chosen among them, test is read once, and reports/studies/NAME/index.html is written.

  study run --trials 40                             the space cnn on the data set of params.yaml
  study run --space mlp --set train.epochs=10       another space, fewer epochs
  study run --name mine --space mine.yaml           your own space
  study run --data-limit 1000 --trials 10           a quick look
"""
REPRODUCE = """\
Train published systems, and compare the figures that they report with those measured here.

ID is a source, 000 to 004; --list shows their rows. Each row is trained on --seeds seeds. What is done is not done again;
a higher --seeds adds to it. Test is read once for the trainings of one command. The command writes
reports/reproduction/index.html, table.csv beside it, and a page for each row.

  study reproduce 001 --seeds 3
  study reproduce --all --quick      every row on few images and epochs, to see that it runs; compares nothing
"""
ABLATE = """\
Change one factor at a time around a base, on the same seeds, and judge written hypotheses.

FILE is a YAML file, or the name of an included one (--list). The report, reports/ablations/NAME/index.html, shows each
row's paired difference to the base with its interval, and whether each hypothesis is supported, refuted or undecided.

  study ablate 003 --seeds 5
  study ablate mine.yaml --data-limit 2000
"""
COMPARE = """\
Compare runs, studies or rows on validation images: settings, curves, confusion matrices, and which differences chance
could explain.

A RUN is NAME/12 (a trial), NAME/12.s3 (a training of a finalist), NAME (a study's winner), NAME/ROW (a row of an ablation
or a reproduction, with all its seeds), an MLflow run id, or current. The others are compared with the first.

  study compare digits-cnn/7 digits-cnn/19
  study compare reproduce-001/exp1 reproduce-001/exp1-bn
"""
STATUSES = """\
exit status: 0 done or stopped on request, 1 the work failed, 2 the command or the configuration is wrong"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the console script ``study``."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    arguments = parser().parse_args(argv)
    with one_line_errors():
        sys.exit(arguments.command(arguments))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="study", description=MANUAL, epilog=STATUSES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Any, help: str, text: str = "") -> argparse.ArgumentParser:
        made = found.add_parser(
            name,
            help=help,
            description=textwrap.dedent(text) or f"{help[0].upper()}{help[1:]}.",
            epilog=STATUSES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=function)
        return made

    _run_options(command("run", commands.run, "create a study or continue it", RUN))
    command("list", commands.list_studies, "list the studies here")
    status = command("status", commands.show_status, "show the progress of a study")
    status.add_argument("name", metavar="NAME")
    status.add_argument("--watch", action="store_true", help="refresh every second until it ends or Ctrl-C")
    status.add_argument("--verify", action="store_true", help="compare ledger, Optuna and MLflow; exit 1 if they differ")
    show = command("show", commands.show_run, "show one trial: parameters, epochs, result")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--trial", required=True, metavar="K", help="its number; 12.s0 for a training of a finalist")
    best = command("best", commands.show_best, "show the best trial, or the Pareto front of several objectives")
    best.add_argument("name", metavar="NAME")
    best.add_argument("--rule", help="with several objectives: one of them, a limit like 'parameters<=5000', or knee")
    stop = command("stop", commands.stop_study, "stop a running study, as Ctrl-C does")
    stop.add_argument("name", metavar="NAME")
    report = command("report", commands.write_report, "write reports/studies/NAME/index.html, also while the study runs")
    report.add_argument("name", metavar="NAME")
    promote = command("promote", commands.promote_run, "write the winner into params.yaml, comments kept; then run dvc repro")
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("--trial", metavar="K", help="this trial instead of the winner")
    trace = command("trace", commands.trace_run, "follow a report row, a trial or an MLflow run to data, commit, seed and model")
    trace.add_argument("what", metavar="RUN|NAME/TRIAL|NAME#ROW|current")
    reproduce = command("reproduce", commands.reproduce, "train published systems and compare their figures with ours", REPRODUCE)
    reproduce.add_argument("sources", metavar="ID", nargs="*", help="000 to 004")
    reproduce.add_argument("--all", action="store_true", help="every source")
    reproduce.add_argument("--list", action="store_true", help="list sources and rows; train nothing")
    reproduce.add_argument("--seeds", type=_count, metavar="N", help="trainings of each row (3; 1 if --quick)")
    reproduce.add_argument("--quick", action="store_true", help="10,000 images, three epochs: runs every row, compares nothing")
    _plan_options(reproduce)
    ablate = command("ablate", commands.ablate, "change one factor at a time around a base and judge hypotheses", ABLATE)
    ablate.add_argument("file", metavar="FILE", nargs="?", help="a YAML file, or the name of an included one")
    ablate.add_argument("--list", action="store_true", help="list the included ones; train nothing")
    ablate.add_argument("--seeds", type=_count, metavar="N", help="trainings of each row, instead of the file's number")
    _plan_options(ablate)
    compare = command("compare", commands.compare, "compare runs, studies or rows", COMPARE)
    compare.add_argument("runs", metavar="RUN", nargs="+", help="two or more")
    compare.add_argument("--by", choices=("seed-group",), help="for a trial, take all trainings of its configuration")
    ui = command("ui", commands.browse, "open MLflow and the Optuna dashboard on 127.0.0.1; Ctrl-C ends both")
    ui.add_argument("--port", type=int, default=5000, help="port of MLflow; the dashboard takes the next free one")
    return top


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--name", help="name of the study; default: data set and space, e.g. digits-cnn")
    run.add_argument("--new", action="store_true", help="start another study if the name is taken")
    run.add_argument("--space", help="search space: cnn, mlp, all or a YAML file")
    run.add_argument("--trials", type=_count, metavar="T", help="number of trials in total")
    run.add_argument("--timeout", help="start no trial after this time: 90m, 2h")
    run.add_argument("--workers", type=_auto_or_count, metavar="auto|K", help="number of processes that train")
    run.add_argument("--engine", choices=("local", "ray"), help="this machine, or a Ray cluster (RAY_ADDRESS)")
    run.add_argument("--storage", metavar="URL", help="Optuna's database; default sqlite:///study.db")
    run.add_argument("--sampler", help="tpe gp cmaes nsga2 nsga3 qmc random grid")
    run.add_argument("--pruner", help="none median hyperband wilcoxon asha")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set any key of params.yaml; repeatable")
    run.add_argument("--data-limit", type=_count, metavar="N", help="use at most N training + validation images")
    run.add_argument(
        "--seed-from",
        action="append",
        default=[],
        metavar="STUDY|FILE",
        help="try the best points of a study or params.yaml first",
    )


def _plan_options(plan: argparse.ArgumentParser) -> None:
    plan.add_argument("--data-limit", type=_count, metavar="N", help="use at most N training + validation images")
    plan.add_argument("--workers", type=_auto_or_count, metavar="auto|K", help="number of processes that train")
    plan.add_argument("--engine", choices=("local", "ray"), help="this machine, or a Ray cluster (RAY_ADDRESS)")
    plan.add_argument("--timeout", help="start no training after this time: 90m, 2h")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _auto_or_count(text: str) -> int | str:
    return text if text == "auto" else _count(text)
