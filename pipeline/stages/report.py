"""Stage report: write one HTML page from the files of a run."""

from __future__ import annotations

from pipeline import artifacts
from pipeline.errors import one_line_errors
from pipeline.report import headline, page
from pipeline.report.inputs import Inputs


def main() -> None:
    with one_line_errors():
        inputs = Inputs.read(artifacts.RAW, artifacts.SEARCH, artifacts.CHECKS, artifacts.MODEL, artifacts.EVALUATION)
        text = page.render(inputs)
        with artifacts.atomic_path(artifacts.REPORT) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{artifacts.REPORT}: test accuracy {headline.estimate(inputs.metrics['accuracy'])}")


if __name__ == "__main__":
    main()
