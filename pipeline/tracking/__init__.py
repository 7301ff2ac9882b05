"""Record runs in MLflow, off the training path.

A :class:`Run` appends records to a queue on disk; a separate process, the only one that imports mlflow, sends them.
"""

from pipeline.tracking.restore import adopt
from pipeline.tracking.run import Dataset, Recorded, Run, Status, epoch_metrics, flatten, number, start, tag_text
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
    "number",
    "problem",
    "run_page",
    "start",
    "tag_text",
]
