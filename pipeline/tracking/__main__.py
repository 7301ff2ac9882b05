"""``python -m pipeline.tracking`` sends the backlog of earlier runs; with a queue's folder it is that run's writer."""

import os
import sys
from pathlib import Path

from pipeline.tracking.child import CALM

if __name__ == "__main__":
    os.environ.update(CALM)  # before mlflow reads it
    from pipeline.tracking.writer import send_left_over, serve

    if len(sys.argv) == 1:
        sys.exit(send_left_over(Path.cwd()))
    # An orderly shutdown of mlflow and torch takes more than a second, for which the run would wait.
    os._exit(serve(Path(sys.argv[1])))
