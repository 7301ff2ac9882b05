"""Folders of one's own images: which layouts are understood, how pictures are made to fit, and what is refused."""

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.dataset import Published
from pipeline.data.download import acquire
from pipeline.data.image_folder import fit, list_folder, open_image
from pipeline.data.sources import read_published


def picture(path: Path, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)
    return path


def folder(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


def read(root: Path, workspace: Path, **keys: object) -> Published:
    section = Data(name="image_folder", path=str(root), **keys)
    acquire(section, workspace / "raw", cache=workspace / "cache", mirror=None)
    return read_published(workspace / "raw", section)


def test_classes_and_files_are_in_natural_order(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "10/a.png", "9/b10.png", "9/b9.png", "9/B1.png", "1/x.png")
    for value, name in enumerate(["1/x.png", "9/B1.png", "9/b9.png", "9/b10.png", "10/a.png"]):
        picture(root / name, value)
    published = read(root, tmp_path)
    assert published.classes == ("1", "9", "10")
    assert published.parts["train"].labels.tolist() == [0, 1, 1, 1, 2]
    assert published.parts["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert published.files["train"] == ("1/x.png", "9/B1.png", "9/b9.png", "9/b10.png", "10/a.png")


@pytest.mark.parametrize("validation", [None, "validation", "val", "Valid"])
def test_parts_are_kept_as_their_folders_say(validation: str | None, tmp_path: Path) -> None:
    parts = ["Train", "test"] + ([validation] if validation else [])
    root = folder(tmp_path / "in", *(f"{part}/{name}/1.png" for part in parts for name in "ab"))
    published = read(root, tmp_path)
    assert list(published.parts) == (["train", "validation", "test"] if validation else ["train", "test"])
    assert published.files["test"] == ("test/a/1.png", "test/b/1.png")


def test_readmes_on_top_and_what_file_managers_leave_are_ignored(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "a/1.png", "b/1.png")
    for name in ("README.md", "LICENSE", ".DS_Store", "a/.hidden", "a/Thumbs.db", "b/desktop.ini"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    assert {name: len(files) for name, files in list_folder(root)["train"].items()} == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "^data.path: must be a folder with a sub-folder of images per class, got .*in$"),
        (["a/1.png"], "in: at least 2 folders, one per class, are needed, got 1$"),
        (["a/1.png", "b/"], "in/b: this class folder is empty; add images or remove it$"),
        (["a/1.png", "b/1.png", "c.png"], "in/c.png: a file beside the class folders; move it into a class folder or remove it$"),
        (["a/1.png", "b/1.png", "b/c/1.png"], "in/b/c: a folder inside a class; move its images up, or remove it$"),
        (["a/1.png", "b/1.png", "a/notes.txt"], r"in/a/notes.txt: not an image that can be read \(none of PNG, JPEG, "),
        (["a/1.png", "b/1.png", "b/empty.jpg"], "in/b/empty.jpg: not an image that can be read"),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png"],
            "in/test: lacks class b; train and test must have the same classes$",
        ),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png", "test/c/1.png"],
            "in/train: lacks class c; train and",
        ),
        (
            ["train/a/1.png", "train/b/1.png", "more/a/1.png"],
            r"only validation/ and test/ may be beside train/, got more/; move it away$",
        ),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"], "more than one folder of validation images"),
    ],
)
def test_each_wrong_layout_has_its_message(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        path = tmp_path / "in" / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        elif name.endswith("/1.png") or name == "c.png":
            picture(path)
        else:
            path.write_text("words" if name.endswith(".txt") else "")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "in", tmp_path)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", [b"caf\xe9/1.png", b"a/caf\xe9.png"])
def test_a_name_that_is_not_utf8_is_refused_as_bytes_that_a_terminal_can_show(name: bytes, tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "a/1.png", "b/1.png")
    picture(root / os.fsdecode(name))
    with pytest.raises(DataError, match=r"file names must be UTF-8, got caf\\xe9(.png)?; rename it$"):
        list_folder(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: picture(root / "a/1.png", 9), "in/a/1.png: changed since the download stage; run it again"),
        (lambda root: picture(root / "a/2.png"), "in/a/2.png: added since the download stage"),
        (lambda root: (root / "a/0.png").unlink(), "in/a/0.png: removed since the download stage"),
    ],
)
def test_a_folder_that_changed_since_the_download_is_refused(change, message: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "a/0.png", "a/1.png", "b/1.png")
    section = Data(name="image_folder", path=str(root))
    acquire(section, tmp_path / "raw", cache=tmp_path / "cache", mirror=None)
    change(root)
    with pytest.raises(DataError, match=message):
        read_published(tmp_path / "raw", section)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "a/1.png", "b/1.png")
    Image.new("1", (10_000, 10_000)).save(root / "b" / "bomb.png")
    assert (root / "b" / "bomb.png").stat().st_size < 20_000
    with pytest.raises(DataError, match=r"in/b/bomb.png: more than 89,478,485 pixels; scale it down or remove it$"):
        read(root, tmp_path)


def test_formats_that_would_start_other_programs_are_not_opened() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    with pytest.raises(DataError, match=r"^x.jpg: not an image that can be read \(none of PNG, "):
        open_image(Path("x.jpg"), buffer.getvalue())


@pytest.mark.parametrize(("place", "value"), [(41, 0), (41, 26)])  # a struct.error and a TypeError of Pillow
def test_a_photograph_with_damaged_exif_is_refused_by_name(place: int, value: int) -> None:
    exif = Image.Exif()
    exif[274], exif[270], exif[282] = 6, "x", 72.0
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12)).save(buffer, "JPEG", exif=exif)
    content = bytearray(buffer.getvalue())
    content[place] = value
    with pytest.raises(DataError, match=r"^x.jpg: not an image that can be read \("):
        fit(Path("x.jpg"), open_image(Path("x.jpg"), bytes(content)), 6, 1)


@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]), st.integers(0, 2**32), st.booleans())
def test_an_image_damaged_anywhere_is_read_or_refused_by_name(form: str, seed: int, cut: bool) -> None:
    rng = random.Random(seed)
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 9), np.uint8)).save(buffer, form)
    content = bytearray(buffer.getvalue())
    if cut:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    try:
        array = fit(Path("some.image"), open_image(Path("some.image"), bytes(content)), 6, 1)
    except DataError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert array.shape == (1, 6, 6)
    assert refusal.startswith("some.image: ") or not refusal


@pytest.mark.parametrize(
    ("mode", "channels", "pixel", "expected"),
    [
        ("L", 1, 200, [200]),
        ("L", 3, 200, [200, 200, 200]),
        ("RGB", 3, (10, 20, 30), [10, 20, 30]),
        ("RGB", 1, (255, 0, 0), [76]),  # 0.299 x 255
        ("1", 1, 1, [255]),
        ("RGBA", 3, (9, 9, 9, 0), [255, 255, 255]),  # transparent: paper shows
        ("RGBA", 1, (9, 9, 9, 255), [9]),
        ("LA", 1, (0, 0), [255]),
        ("CMYK", 3, (0, 0, 0, 0), [255, 255, 255]),
        ("I;16", 1, 0x8040, [0x80]),  # Pillow's own conversion clips this at 255
    ],
)
def test_every_kind_of_pixel_becomes_eight_bits_a_channel(mode: str, channels: int, pixel, expected: list[int]) -> None:
    array = fit(Path("x"), Image.new(mode, (4, 4), pixel), 4, channels)
    assert array.dtype == np.uint8
    assert array.shape == (channels, 4, 4)
    assert array[:, 2, 2].tolist() == expected


def test_a_palette_with_a_transparent_colour_shows_paper_there() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.info["transparency"] = 0
    assert fit(Path("x"), image, 4, 3)[:, 0, 0].tolist() == [255, 255, 255]


def test_thirty_two_bit_pixels_are_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match=r"^x: .*mode F has 32 bits per pixel; save it with 8 or 16"):
        fit(Path("x"), Image.new("F", (4, 4), 0.5), 4, 1)


def test_the_shape_is_kept_and_padded_with_the_median_colour_of_the_border() -> None:
    pixels = np.full((10, 20, 3), (50, 100, 150), np.uint8)
    pixels[3:7, 8:12] = 255
    pixels[0, 0] = 0
    array = fit(Path("x"), Image.fromarray(pixels), 20, 3)
    for rows in (slice(0, 5), slice(15, 20)):
        assert (array[:, rows] == np.array([50, 100, 150]).reshape(3, 1, 1)).all()
    np.testing.assert_array_equal(array[:, 5:15].transpose(1, 2, 0), pixels)  # not scaled, so not touched


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1, 1)])
def test_the_thinnest_picture_still_shows(size: tuple[int, int]) -> None:
    assert fit(Path("x"), Image.new("L", size, 7), 28, 1).tolist() == np.full((1, 28, 28), 7).tolist()


def test_a_photograph_is_turned_upright() -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0))  # left black, right white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: left goes to the top
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    upright = fit(Path("x"), open_image(Path("x"), buffer.getvalue()), 2, 1)
    assert upright.tolist() == [[[0, 0], [255, 255]]]


def test_fine_stripes_become_grey_when_scaled_down() -> None:
    stripes = np.tile(np.array([[0, 255]], np.uint8), (280, 140))
    assert np.abs(fit(Path("x"), Image.fromarray(stripes), 28, 1).astype(int) - 127).max() <= 6


def test_real_photographs_in_train_and_test_folders(shared_data: Path, tmp_path: Path) -> None:
    published = read(shared_data / "greek", tmp_path, image_size=32, channels=3)
    assert published.classes == ("alpha", "beta", "gamma")
    assert {part: split.images.shape for part, split in published.parts.items()} == {
        "train": (27, 3, 32, 32),
        "test": (12, 3, 32, 32),
    }
    manifest = artifacts.read_json(tmp_path / "raw" / "source.json")["files"]
    assert manifest["train/alpha/alpha_001.png"]["bytes"] == 8064
