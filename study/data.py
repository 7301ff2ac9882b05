"""The arrays that a study works on: its own copy, so that ``dvc repro`` can change the pipeline's under a running study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import artifacts
from pipeline.config import Data, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.data.download import acquire
from pipeline.data.prepare import prepare
from pipeline.data.sources import read_published
from pipeline.lineage import digest

PREPARED = Path(".cache/data")  # below the project's root: one folder for each way of preparing a data set


@dataclass(frozen=True)
class Arrays:
    """Where the arrays of one data section are.

    search : train and validation, all that a search can see
    test : opened once, when the search is over
    """

    search: Path
    test: Path

    @property
    def raw(self) -> Path:
        """The verified files that the arrays were made from."""
        return self.search.with_name("raw")

    @property
    def checks(self) -> Path:
        """What was found out about the images."""
        return self.search.with_name("checks.json")

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo.read(self.search)


def arrays(section: Data, root: Path, mirror: str | None) -> Arrays:
    """The arrays of a data section, prepared exactly as the stages download and preprocess do, where that was not done yet.

    mirror : a folder or URL tried before the public mirrors

    Raises
    ------
    DataError
        As the two stages.
    """
    folder = root / PREPARED / digest(to_tree(replace(section, mirror=None)))
    place = Arrays(folder / "search", folder / "test")
    # A folder of one's own images may change under its name, so only published data are taken from here unseen.
    if section.name == "image_folder" or not place.search.exists():
        acquire(section, place.raw, cache=root / artifacts.DOWNLOADS, mirror=mirror)
        prepare(read_published(place.raw, section), section).write(place.search, place.test, place.checks)
    return place
