"""Stage download: fetch and verify the files of one data set into ``artifacts.RAW``."""

from __future__ import annotations

import os

from pipeline import artifacts, config
from pipeline.data.download import acquire
from pipeline.errors import one_line_errors


def main() -> None:
    with one_line_errors():
        section = config.load().data
        mirror = section.mirror or os.environ.get("STUDYLINE_MIRROR") or None
        acquire(section, artifacts.RAW, cache=artifacts.DOWNLOADS, mirror=mirror)


if __name__ == "__main__":
    main()
