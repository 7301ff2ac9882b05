"""``python -m study.stores FOLDER`` follows the ledger in FOLDER until its standard input ends; without FOLDER it sends what
earlier studies below ``./studies`` left unsent.
"""

import os
import sys
from pathlib import Path

from pipeline.tracking.run import CALM

if __name__ == "__main__":
    os.environ.update(CALM)  # before mlflow reads it
    from study.stores.process import send_left_over, serve

    if len(sys.argv) == 1:
        sys.exit(send_left_over(Path.cwd()))
    # Taking mlflow and torch down in good order takes more than a second, for which a study that has ended would wait.
    os._exit(serve(Path(sys.argv[1]), wait=True))
