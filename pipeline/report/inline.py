"""Pictures, figures and tables as text that stands inside the page, so that it needs no other file."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from PIL import Image

SVG = "http://www.w3.org/2000/svg"
XLINK = "{http://www.w3.org/1999/xlink}href"
THUMBNAIL = 96  # pixels; a gallery of larger photographs would weigh more than all the rest of the page

ElementTree.register_namespace("", SVG)


class ReportError(ValueError):
    """A file that the report cannot use; names it and says what to do."""


def data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture(pixels: np.ndarray) -> str:
    """A small picture as a data URI: PNG up to the size of CIFAR's images, else a thumbnail as WebP.

    Parameters
    ----------
    pixels : uint8 (channels, height, width), 1 or 3 channels
    """
    return _encoded(Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, -1))))


def thumbnail(png: str) -> str:
    """A base64 PNG as a data URI, in the form that :func:`picture` gives."""
    return _encoded(Image.open(io.BytesIO(base64.b64decode(png))))


def _encoded(image: Image.Image) -> str:
    small = max(image.size) <= 32
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
        return data_uri(buffer.getvalue(), "image/png")
    image.save(buffer, "WEBP", quality=85, method=6)
    return data_uri(buffer.getvalue(), "image/webp")


def figure(svg: str, name: str, label: str) -> Markup:
    """An SVG file as an element of the page, described for those who do not see it.

    Ids that something refers to are prefixed with ``name``, as those of several figures would collide; others go. So do
    the style sheet, which would style the whole page, and the fixed size.

    Raises
    ------
    ReportError
        The text is no well-formed XML.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ReportError(f"figure {name} must be well-formed SVG: {error}; run the evaluate stage again") from None
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style", f"{{{SVG}}}script", f"{{{SVG}}}title"):
                parent.remove(child)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    for element in root.iter():
        _localise(element, name, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return Markup(re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")))


def width(svg: str) -> float:
    """The width of a figure in CSS pixels, from its view box in points."""
    match = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+)', svg)
    if not match:
        raise ReportError("a figure must have a viewBox; run the evaluate stage again")
    return float(match[1]) * 4 / 3


def _localise(element: ElementTree.Element, name: str, used: set[str]) -> None:
    identity = element.attrib.pop("id", None)
    if identity in used:
        element.set("id", f"{name}-{identity}")
    for key, value in list(element.attrib.items()):
        if key in (XLINK, "href"):
            del element.attrib[key]
            element.set("href", f"#{name}-{value[1:]}" if value.startswith("#") else value.replace("\n", ""))
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))
        elif key == "d":  # a hundredth of a point is finer than any screen
            element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", value)))
