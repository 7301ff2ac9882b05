"""``python -m study.stores FOLDER`` follows the ledger in FOLDER until its standard input ends; ``python -m study.stores`` sends
the backlog of inactive studies below ``./studies``.
"""

import os
import sys
from pathlib import Path

from pipeline.tracking.child import CALM

if __name__ == "__main__":
    os.environ.update(CALM)  # before mlflow reads it
    from study.stores.process import send_left_over, serve

    if len(sys.argv) == 1:
        sys.exit(send_left_over(Path.cwd()))
    # An orderly shutdown of mlflow and torch takes more than a second, for which the study would wait.
    os._exit(serve(Path(sys.argv[1]), wait=True))
