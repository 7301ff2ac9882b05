"""Read scikit-learn's handwritten digits, laid out like MNIST: 20 x 20 in the middle of 28 x 28.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (its
1,797 test images).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.dataset import Published, Split

CLASSES = tuple(str(digit) for digit in range(10))
DARKEST = 16  # published pixels are counts in 0 to 16
INK, MARGIN = 20, 4  # pixels of the canvas


def write_digits(folder: Path) -> dict[str, dict[str, Any]]:
    """Write the published arrays, (1797, 8, 8) and (1797,); return the description of the files for ``source.json``."""
    import sklearn
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = {"digits-images.npy": digits.images.astype(np.uint8), "digits-labels.npy": digits.target.astype(np.int64)}
    described = {}
    for name, array in arrays.items():
        np.save(folder / name, array)
        content = (folder / name).read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        described[name] = {"md5": md5, "bytes": len(content), "from": f"scikit-learn {sklearn.__version__}"}
    return described


def read_digits(folder: Path) -> Published:
    """Return the digits as uint8 (1797, 1, 28, 28); there is no official test part."""
    images, labels = np.load(folder / "digits-images.npy"), np.load(folder / "digits-labels.npy")
    return Published(CLASSES, {"train": Split(on_canvas(images), labels)})


def on_canvas(images: np.ndarray) -> np.ndarray:
    """Enlarge (n, 8, 8) counts in 0 to 16 smoothly to 20 x 20 pixels in 0 to 255, amid a 28 x 28 canvas: uint8 (n, 1, 28, 28)."""
    pixels = torch.from_numpy(images[:, None] * (255 / DARKEST))  # (n, 1, 8, 8)
    large = F.interpolate(pixels, size=(INK, INK), mode="bicubic", align_corners=False)
    return F.pad(large.round().clamp(0, 255), (MARGIN,) * 4).to(torch.uint8).numpy()
