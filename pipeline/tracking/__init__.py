"""MLflow, kept off the training path.

A :class:`Run` appends records to a queue on disk; a process of its own, with mlflow imported there and nowhere else,
sends them. Importing this package costs nothing.
"""

from pipeline.tracking.restore import adopt
from pipeline.tracking.run import Dataset, Recorded, Run, Status, epoch_metrics, flatten, start
from pipeline.tracking.store import Store, TrackingError, locate, problem, run_page

__all__ = [
    "Dataset",
    "Recorded",
    "Run",
    "Status",
    "Store",
    "TrackingError",
    "adopt",
    "epoch_metrics",
    "flatten",
    "locate",
    "problem",
    "run_page",
    "start",
]
