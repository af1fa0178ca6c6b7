"""Slices as pixels, and pixels as JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ..evaluation.pictures import colour_of

QUALITY = 75
"""The JPEG quality: artefacts are invisible at these sizes, and files have half the bytes of quality 90."""

Size = tuple[int, int]
"""(width, height) in pixels."""


def grey_pixels(plane: np.ndarray, window: tuple[float, float], size: Size) -> np.ndarray:
    """A slice, as as_shown returns it, in grey: uint8 [height, width] of `size`, the top row first."""
    low, high = window
    bright = np.clip((plane[::-1].astype(np.float32) - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(bright).resize(size, Image.Resampling.BILINEAR))


def label_pixels(plane: np.ndarray, size: Size) -> np.ndarray:
    """As grey_pixels, but of a slice of labels and by nearest neighbour, so that labels stay labels."""
    upright = np.ascontiguousarray(plane[::-1])
    return np.asarray(Image.fromarray(upright).resize(size, Image.Resampling.NEAREST))


def jpeg(pixels: np.ndarray) -> bytes:
    """The bytes of a JPEG of pixels, uint8 [H, W], or [H, W, 3] in red, green, blue."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY, optimize=True)
    return content.getvalue()


def hex_of(value: int) -> str:
    """The colour of a label value in HTML, such as "#b5493a"."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour_of(value))
