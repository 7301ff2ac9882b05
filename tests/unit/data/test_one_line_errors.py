"""What the user can mend is one line; what only we can mend keeps its traceback."""

from pathlib import Path

import pytest

from pipeline.config import ConfigError
from pipeline.data import DataError
from pipeline.errors import one_line_errors


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("train.lr: must be greater than 0, got -1"), 2, "error: train.lr: must be greater than 0, got -1\n"),
        (DataError("a.png: not an image"), 1, "error: a.png: not an image\n"),
        (OSError(28, "No space left on device", "data/raw"), 1, "error: data/raw: No space left on device\n"),
        (OSError("the disk is gone"), 1, "error: the disk is gone\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command continues from here\n"),
    ],
)
def test_errors_for_users_end_in_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert ended.value.code == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("a bug"), AssertionError(), KeyError("a"), SystemExit(7)])
def test_bugs_keep_their_traceback(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, one_line_errors():
        raise error
    assert caught.value is error


def test_a_missing_params_file_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.stages import preprocess

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        preprocess.main()
    assert ended.value.code == 2
    assert "params.yaml" in capsys.readouterr().err
