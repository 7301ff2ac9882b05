"""Stage preprocess: convert, split and check the data set in ``artifacts.RAW``."""

from __future__ import annotations

from pipeline import artifacts, config
from pipeline.data.prepare import prepare
from pipeline.data.sources import read_published
from pipeline.errors import one_line_errors


def main() -> None:
    with one_line_errors():
        section = config.load().data
        prepared = prepare(read_published(artifacts.RAW, section), section)
        prepared.write(artifacts.SEARCH, artifacts.TEST, artifacts.CHECKS)


if __name__ == "__main__":
    main()
