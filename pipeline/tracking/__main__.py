"""``python -m pipeline.tracking`` sends what earlier runs left unsent; with a queue's folder it is that run's writer."""

import sys
from pathlib import Path

from pipeline.tracking.writer import send_left_over, serve

if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1])) if len(sys.argv) > 1 else send_left_over(Path.cwd()))
