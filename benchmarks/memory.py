"""How much memory a training holds beside the mapped data files: ``python -m benchmarks.memory``."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import arms
from benchmarks.training_loop import MLP
from pipeline.config import Train
from pipeline.data.dataset import DatasetInfo, SearchData
from pipeline.training.device import use_cpu
from pipeline.training.loop import Training

N = 60_000


def main() -> None:
    use_cpu(1)
    with tempfile.TemporaryDirectory() as name:
        folder, split = Path(name), arms.images(N)
        info = DatasetInfo("random", tuple("0123456789"), (1, 28, 28), (arms.MEAN,), (arms.STD,), "", 0, {})
        SearchData(info, split, replace(split, images=split.images[:100], labels=split.labels[:100])).write(folder)
        size = split.images.nbytes
        del split
        training = Training(MLP, Train(batch_size=64), SearchData.read(folder), torch.device("cpu"))
        before = _anonymous()
        training.run_epoch()
        grown, mapped, private = _anonymous() - before, *_mapping(folder / "train_images.npy")
    print(f"# Memory of one epoch over {N:,} images of {size / 1e6:.0f} MB\n")
    print(f"mapped from the file: {mapped / 1e6:.0f} MB, of which copied by this process: {private / 1e6:.1f} MB")
    print(f"other memory, grown during the epoch: {grown / 1e6:.0f} MB, {grown / size:.2f} of a copy\n")


def _anonymous() -> int:
    """Bytes of this process that no file backs."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return 1024 * int(found[1])


def _mapping(path: Path) -> tuple[int, int]:
    """Resident bytes of a mapped file, and how many of them this process has copied for itself."""
    text = Path("/proc/self/smaps").read_text()
    entry = text[text.index(str(path)) :]
    resident, dirty = (re.search(rf"^{name}:\s+(\d+) kB", entry, re.M) for name in ("Rss", "Private_Dirty"))
    assert resident is not None
    assert dirty is not None
    return 1024 * int(resident[1]), 1024 * int(dirty[1])


if __name__ == "__main__":
    main()
