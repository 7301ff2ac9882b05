"""The arrays that a study works on: its own copy, named after its content, which never changes once it is there."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import artifacts
from pipeline.config import Data, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.data.download import acquire
from pipeline.data.prepare import prepare
from pipeline.data.sources import read_published
from pipeline.lineage import digest
from study.state.ledger import NAME, STUDIES

PREPARED = Path(".cache/data")  # below the project's root: a folder SETTINGS-CONTENT for each copy
UNUSED = 86_400.0  # seconds after which a copy that no ledger names is removed


@dataclass(frozen=True)
class Arrays:
    """Where the arrays of one data section are, as they were when it was prepared.

    folder : of the copy
    info : its shapes, classes and fingerprint
    """

    folder: Path
    info: DatasetInfo

    @property
    def search(self) -> Path:
        """Train and validation, all that a search can see."""
        return self.folder / "search"

    @property
    def test(self) -> Path:
        """Opened once, when the search is over."""
        return self.folder / "test"

    @property
    def raw(self) -> Path:
        """The verified files that the arrays were made from."""
        return self.folder / "raw"

    @property
    def checks(self) -> Path:
        """What was found out about the images."""
        return self.folder / "checks.json"


def arrays(section: Data, root: Path, mirror: str | None) -> Arrays:
    """Return the arrays of a data section, prepared exactly as the stages download and preprocess do, if not done yet.

    Published data are prepared once. A folder of one's own images is read each time: where its images are others by now, there
    is another copy, beside the one that earlier studies go on with. One process prepares, others wait for it.

    mirror : a folder or URL tried before the public mirrors

    Raises
    ------
    DataError
        As the two stages.
    DamagedError
        The copy's arrays are not what was written.
    """
    settings = digest(to_tree(replace(section, mirror=None)))
    home = root / PREPARED
    home.mkdir(parents=True, exist_ok=True)
    with artifacts.locked(home / settings, notice=f"another process prepares the data set {section.name}; waiting for it"):
        known = None if section.name == "image_folder" else next(filter(_whole, home.glob(f"{settings}-*")), None)
        folder = known or _prepared(section, home, settings, root / artifacts.DOWNLOADS, mirror)
        os.utime(folder)
        _remove_unused(home, settings, root)
    return Arrays(folder, DatasetInfo.read(artifacts.verified(folder / "search")))


def _prepared(section: Data, home: Path, settings: str, downloads: Path, mirror: str | None) -> Path:
    """A copy of the data as they are now; an equal one that is there already stays."""
    fresh = home / f".{settings}.new"
    shutil.rmtree(fresh, ignore_errors=True)  # of a killed process: the lock is ours
    try:
        acquire(section, fresh / "raw", cache=downloads, mirror=mirror)
        prepared = prepare(read_published(fresh / "raw", section), section)
        prepared.write(fresh / "search", fresh / "test", fresh / "checks.json")
        folder = home / f"{settings}-{prepared.search.info.fingerprint[:16]}"
        if not _whole(folder):
            shutil.rmtree(folder, ignore_errors=True)  # somebody has removed a damaged part of it
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("raw", "search", "test", "checks.json"))


def _remove_unused(home: Path, settings: str, root: Path) -> None:
    """Remove copies with these settings that no ledger names and nobody has asked for since yesterday."""
    copies = [path for path in home.glob(f"{settings}-*") if re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}", path.name)]
    old = [path for path in copies if time.time() - path.stat().st_mtime > UNUSED]
    if old:
        ledgers = [path.read_text(errors="replace") for path in (root / STUDIES).glob(f"*/{NAME}")]
        for path in old:
            if not any(path.name.partition("-")[2] in text for text in ledgers):
                shutil.rmtree(path)
