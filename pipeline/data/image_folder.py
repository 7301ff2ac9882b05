"""Read a folder of the user's images: one sub-folder per class, or train/ and optionally validation/ and test/ with such.

A ``validation`` (``val``, ``valid``) or ``test`` folder is used as it is; a missing one is split off the training images.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.dataset import Published, Split
from pipeline.data.progress import progress

PART_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
IGNORED = re.compile(r"\..*|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)  # left behind by file managers
IGNORED_ON_TOP = re.compile(r"README.*|LICEN[SC]E.*", re.IGNORECASE)
SIZE, CHANNELS = 28, 1  # if the configuration names none
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow's others include some that start programs, like EPS
PAPER = (255, 255, 255)  # colour behind transparent pixels

Listing = dict[str, dict[str, list[Path]]]  # part -> class -> files


def write_manifest(root: Path) -> dict[str, dict[str, Any]]:
    """Check the folder's layout and that each file begins like an image; return the description of the files."""
    described = {}
    files = list(_files(list_folder(root)))
    with progress(f"{root}: checking images", len(files)) as done:
        for number, path in enumerate(files, start=1):
            content = path.read_bytes()
            open_image(path, content).close()
            name = path.relative_to(root).as_posix()
            described[name] = {"md5": _md5(content), "bytes": len(content), "from": str(root)}
            done(number)
    return described


def read_folder(raw: Path, section: Data) -> Published:
    """Return all images of ``section.path``, scaled to one size; they must be those of the manifest in ``raw``.

    Raises DataError if a file was added, removed or changed since the download stage, or cannot be read as an image.
    """
    root = Path(section.path)
    manifest = artifacts.read_json(raw / "source.json")["files"]
    listing = list_folder(root)
    present = {path.relative_to(root).as_posix() for path in _files(listing)}
    for name in sorted(present ^ manifest.keys()):
        change = "added" if name in present else "removed"
        raise DataError(f"{root / name}: {change} since the download stage; run it again (dvc repro)")
    size, channels = section.image_size or SIZE, section.channels or CHANNELS
    parts, files = {}, {}
    with progress(f"{root}: reading images", len(present)) as done:
        read = 0
        for part, classes in listing.items():
            names = [path for paths in classes.values() for path in paths]
            images = np.empty((len(names), channels, size, size), np.uint8)
            for index, path in enumerate(names):
                images[index] = _read(path, manifest[path.relative_to(root).as_posix()], size, channels)
                done(read := read + 1)
            labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
            parts[part] = Split(images, labels.astype(np.int64))
            files[part] = tuple(path.relative_to(root).as_posix() for path in names)
    return Published(tuple(listing["train"]), parts, files)


def list_folder(root: Path) -> Listing:
    """Return the files by part and class, classes and files in natural order.

    Raises DataError for a missing folder, fewer than two classes, an empty class, a file in place of a folder or the reverse, or
    parts that differ in their classes.
    """
    if not root.is_dir():
        raise DataError(f"data.path: must be a folder with a sub-folder of images per class, got {root}")
    folders = {path.name: path for path in _entries(root, IGNORED_ON_TOP, want_folders=True)}
    lowered = {PART_FOLDERS.get(name.lower(), name): path for name, path in folders.items()}
    if "train" not in lowered:
        return {"train": _two_or_more(root, _classes(root))}
    strangers = lowered.keys() - set(PART_FOLDERS.values())
    if strangers:
        raise DataError(f"{root}: only validation/ and test/ may be beside train/, got {_natural(strangers)[0]}/; move it away")
    if len(lowered) < len(folders):
        raise DataError(f"{root}: more than one folder of validation images ({', '.join(sorted(folders))}); keep one")
    parts: Listing = {part: _classes(lowered[part]) for part in ("train", "validation", "test") if part in lowered}
    _two_or_more(lowered["train"], parts["train"])
    for part, classes in parts.items():
        differing = _natural(classes.keys() ^ parts["train"].keys())
        if differing:
            lacks = part if differing[0] in parts["train"] else "train"
            raise DataError(f"{lowered[lacks]}: lacks class {differing[0]}; train and {part} must have the same classes")
    return parts


def open_image(path: Path, content: bytes) -> Image.Image:
    """Open an image by its first bytes, without decoding it.

    Raises DataError if the file is not an image, or has more than 89 million pixels (a decompression bomb would fill the
    memory).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down or remove it") from None
    except Exception as error:
        raise _unreadable(path, error) from None


def fit(path: Path, image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Turn upright, make grey or colour, scale to fit ``size`` x ``size`` and pad with the median colour of the border.

    Raises DataError if the image is damaged; the message names ``path``.

    Returns
    -------
    uint8 array of shape (channels, size, size)
    """
    try:
        image = _flat(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    except Exception as error:
        raise _unreadable(path, error) from None
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    inner = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)).reshape(height, width, channels)
    canvas = np.empty((size, size, channels), np.uint8)
    canvas[:] = np.median(border, axis=0)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[top : top + height, left : left + width] = inner
    return canvas.transpose(2, 0, 1)


def _read(path: Path, described: Mapping[str, Any], size: int, channels: int) -> np.ndarray:
    content = path.read_bytes()
    if _md5(content) != described["md5"]:
        raise DataError(f"{path}: changed since the download stage; run it again (dvc repro)")
    with open_image(path, content) as image:
        return fit(path, image, size, channels)


def _flat(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel, opaque. Pillow would clip 16-bit grey at 255; this takes its upper byte."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has 32 bits per pixel; save it with 8 or 16")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, PAPER)
        return Image.alpha_composite(paper, image.convert("RGBA"))
    return image


def _classes(folder: Path) -> dict[str, list[Path]]:
    classes = {}
    for path in _entries(folder, IGNORED_ON_TOP, want_folders=True):
        classes[path.name] = _entries(path, None, want_folders=False)
        if not classes[path.name]:
            raise DataError(f"{path}: this class folder is empty; add images or remove it")
    return classes


def _two_or_more(folder: Path, classes: dict[str, list[Path]]) -> dict[str, list[Path]]:
    if len(classes) < 2:
        raise DataError(f"{folder}: at least 2 folders, one per class, are needed, got {len(classes)}")
    return classes


def _entries(folder: Path, ignored: re.Pattern[str] | None, *, want_folders: bool) -> list[Path]:
    """Return the folders (or files) in a folder, in natural order. Raises DataError for an entry of the other kind."""
    entries = []
    for name in _natural(path.name for path in folder.iterdir()):
        path = folder / name
        if IGNORED.fullmatch(name) or (ignored and ignored.fullmatch(name) and not path.is_dir()):
            continue
        if not _is_text(name):
            escaped = os.fsencode(name).decode(errors="backslashreplace")
            raise DataError(f"{folder}: file names must be UTF-8, got {escaped}; rename it")
        if path.is_dir() != want_folders:
            remedy = "move it into a class folder or remove it" if want_folders else "move its images up, or remove it"
            raise DataError(f"{path}: a {'file beside the class folders' if want_folders else 'folder inside a class'}; {remedy}")
        entries.append(path)
    return entries


def _is_text(name: str) -> bool:
    """Return whether the bytes of a file name were UTF-8; others became lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _files(listing: Listing) -> Iterator[Path]:
    return (path for classes in listing.values() for paths in classes.values() for path in paths)


def _natural(names: Any) -> list[str]:
    """Return names sorted with 2 before 10; the order of names that differ only in leading zeros or case is fixed."""
    return sorted(names, key=lambda name: ([int(word) if word.isdigit() else word.lower() for word in _WORDS.split(name)], name))


_WORDS = re.compile(r"([0-9]+)")  # split() alternates text and numbers, so that like is compared with like


def _unreadable(path: Path, error: Exception) -> DataError:
    """Return an error with Pillow's reason, without the address of our buffer. Decoders of damaged files raise any type."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = f"none of {', '.join(FORMATS)}" if text.startswith("cannot identify image file") else text
    return DataError(f"{path}: not an image that can be read ({reason}); remove or replace it")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
