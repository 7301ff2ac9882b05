"""``study …``: the commands and their options, as their manuals show them; what they do is in :mod:`study.cli.commands`."""

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
Search hyperparameters with Optuna, record every trial in MLflow, confirm the winner on fresh seeds; vary one factor at a
time; reproduce published systems; compare any runs.

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
REPRODUCE = """\
Train published systems, and hold what they report against what is measured here.

ID is a source: 000 to 004 (--list shows their rows). Each row is trained on --seeds seeds; what is done is not done
again, and raising --seeds adds to it. Test is read once for the trainings of a call. Written are
reports/reproduction/index.html, table.csv beside it, and a page for each row.

  study reproduce 001 --seeds 3
  study reproduce --all --quick      every row on few images and epochs, to see that it runs: compares nothing
"""
ABLATE = """\
Change one factor at a time around a base, on the same seeds, and judge written hypotheses.

FILE is a YAML file, or the name of a shipped one (--list). The report, reports/ablations/NAME/index.html, has each row's
paired difference to the base with its interval, and each hypothesis as supported, refuted or undecided.

  study ablate 003 --seeds 5
  study ablate mine.yaml --data-limit 2000
"""
COMPARE = """\
Put runs, studies or rows side by side, on validation images: settings, curves, confusions, whom chance explains.

A RUN is what `study trace` takes: NAME/12, NAME/12.s3, an MLflow run id, current; or NAME (its winner), or a row of a plan,
NAME/ROW, with all its seeds. The first is what the others are compared with.

  study compare digits-cnn/7 digits-cnn/19
  study compare reproduce-001/exp1 reproduce-001/exp1-bn
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

    _run_options(command("run", commands.run, "create a study or go on with it", RUN))
    command("list", commands.list_studies, "the studies here, a line each")
    status = command("status", commands.show_status, "how far a study is")
    status.add_argument("name", metavar="NAME")
    status.add_argument("--watch", action="store_true", help="look again every second until it ends or Ctrl-C")
    status.add_argument("--verify", action="store_true", help="compare ledger, Optuna and MLflow; exit 1 where they differ")
    show = command("show", commands.show_run, "one trial: parameters, course, result")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--trial", required=True, metavar="K", help="its number; 12.s0 for a finalist's training")
    best = command("best", commands.show_best, "the best trial, or the Pareto front of several objectives")
    best.add_argument("name", metavar="NAME")
    best.add_argument("--rule", help="with several objectives: one of them, a limit like 'parameters<=5000', or knee")
    stop = command("stop", commands.stop_study, "ask a running study to stop, as Ctrl-C does")
    stop.add_argument("name", metavar="NAME")
    report = command("report", commands.write_report, "write reports/studies/NAME/index.html, also of a running study")
    report.add_argument("name", metavar="NAME")
    promote = command("promote", commands.promote_run, "write the winner into params.yaml, comments kept; then: dvc repro")
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("--trial", metavar="K", help="another trial than the winner")
    trace = command("trace", commands.trace_run, "from a report row, a trial or an MLflow run to data, commit, seed and model")
    trace.add_argument("what", metavar="RUN|NAME/TRIAL|NAME#ROW|current")
    reproduce = command("reproduce", commands.reproduce, "published systems: what they report, what is measured here", REPRODUCE)
    reproduce.add_argument("sources", metavar="ID", nargs="*", help="000 to 004")
    reproduce.add_argument("--all", action="store_true", help="every source")
    reproduce.add_argument("--list", action="store_true", help="show sources and rows, train nothing")
    reproduce.add_argument("--seeds", type=_count, metavar="N", help="trainings of each row (3; 1 if --quick)")
    reproduce.add_argument("--quick", action="store_true", help="10,000 images, three epochs: all runs, nothing is compared")
    _plan_options(reproduce)
    ablate = command("ablate", commands.ablate, "one factor at a time around a base, hypotheses judged", ABLATE)
    ablate.add_argument("file", metavar="FILE", nargs="?", help="a YAML file, or the name of a shipped one")
    ablate.add_argument("--list", action="store_true", help="show the shipped ones, train nothing")
    ablate.add_argument("--seeds", type=_count, metavar="N", help="trainings of each row, in place of the file's")
    _plan_options(ablate)
    compare = command("compare", commands.compare, "runs, studies or rows side by side", COMPARE)
    compare.add_argument("runs", metavar="RUN", nargs="+", help="two or more")
    compare.add_argument("--by", choices=("seed-group",), help="of a trial all trainings of its configuration")
    ui = command("ui", commands.browse, "MLflow and the Optuna dashboard on 127.0.0.1, links printed; Ctrl-C ends both")
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


def _plan_options(plan: argparse.ArgumentParser) -> None:
    plan.add_argument("--data-limit", type=_count, metavar="N", help="use at most N training + validation images")
    plan.add_argument("--workers", type=_auto_or_count, metavar="auto|K", help="processes that train")
    plan.add_argument("--engine", choices=("local", "ray"), help="this machine, or a Ray cluster (RAY_ADDRESS)")
    plan.add_argument("--timeout", help="begin no training after this time: 90m, 2h")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _auto_or_count(text: str) -> int | str:
    return text if text == "auto" else _count(text)
