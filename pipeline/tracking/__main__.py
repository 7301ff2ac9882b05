"""``python -m pipeline.tracking`` sends what earlier runs left unsent; with a queue's folder it is that run's writer."""

import os
import sys
from pathlib import Path

from pipeline.tracking.run import CALM

if __name__ == "__main__":
    os.environ.update(CALM)  # before mlflow reads it
    from pipeline.tracking.writer import send_left_over, serve

    if len(sys.argv) == 1:
        sys.exit(send_left_over(Path.cwd()))
    # Taking mlflow and torch down in good order takes more than a second, for which a run that has ended would wait.
    os._exit(serve(Path(sys.argv[1])))
