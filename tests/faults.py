"""What goes wrong in a worker, for real: functions to give an executor as its ``work``.

Worker processes import this module by its name: pytest puts this folder on ``sys.path`` (``pythonpath`` in pyproject.toml), and
an executor gives its workers its own ``sys.path``. So a test says ``import faults``, ``Local(slots, faults.raises)``. For faults
in one run of many, at a certain epoch, a certain number of times: :func:`plan`, and the work :func:`as_planned`.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import torch

from study.workers.protocol import EpochDone
from study.workers.segment import run

PLAN = "FAULTS"  # variable of the environment: folder with the plan


def raises(task, emit, asked_to_stop, cache):
    raise TypeError("unsupported operand:\nan int and a str")


def hangs(task, emit, asked_to_stop, cache):
    """Never returns, and looks at nothing."""
    threading.Event().wait()


def is_killed(task, emit, asked_to_stop, cache):
    os.kill(os.getpid(), signal.SIGKILL)
    hangs(task, emit, asked_to_stop, cache)


def exits(task, emit, asked_to_stop, cache):
    sys.exit("nothing more to do")


def leaves(task, emit, asked_to_stop, cache):
    """Ends without a word, as a library may."""
    os._exit(7)


def takes_too_much_memory(task, emit, asked_to_stop, cache):
    torch.empty(1 << 55, dtype=torch.uint8)


def loses_its_device(task, emit, asked_to_stop, cache):
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later")


def tells_its_process(task, emit, asked_to_stop, cache):
    """What the process sees, as the reason of a failure."""
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    raise RuntimeError(json.dumps({"pid": os.getpid()} | {name: os.environ.get(name) for name in names}))


def tells_then_hangs(task, emit, asked_to_stop, cache):
    """One epoch whose number is the process, and no more."""
    emit(EpochDone(task.run, {"epoch": os.getpid()}))
    hangs(task, emit, asked_to_stop, cache)


def tells_then_goes_on(task, emit, asked_to_stop, cache):
    """One epoch whose number is the process, and then real training."""
    emit(EpochDone(task.run, {"epoch": os.getpid()}))
    run(task, emit, asked_to_stop, cache)


def of_its_run(task, emit, asked_to_stop, cache):
    """The fault that the run is named for, or real training where there is none of that name."""
    globals().get(task.run, run)(task, emit, asked_to_stop, cache)


def plan(folder: Path, run_key: str, fault: str, epoch: int = 0, times: int = 1) -> None:
    """From now on, ``times`` times: ``fault`` in that run as soon as ``epoch`` is done; at its begin with 0.

    Workers must have ``{PLAN: str(folder)}`` in their environment when they start.
    """
    (folder / f"{run_key}.json").write_text(json.dumps({"fault": fault, "epoch": epoch, "times": times}))


def as_planned(task, emit, asked_to_stop, cache):
    """Real training, but for what :func:`plan` has planned for the run."""
    path = Path(os.environ[PLAN], f"{task.run}.json")

    def happen(epoch):
        planned = json.loads(path.read_text()) if path.exists() else {"times": 0}
        if planned["times"] and planned["epoch"] == epoch:
            path.write_text(json.dumps({**planned, "times": planned["times"] - 1}))
            globals()[planned["fault"]](task, emit, asked_to_stop, cache)

    def tell(message):
        emit(message)
        if isinstance(message, EpochDone):
            happen(message.epoch["epoch"])

    if task.checkpoint is None:
        happen(0)
    run(task, tell, asked_to_stop, cache)
