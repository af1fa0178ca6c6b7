"""The configurations that the paper states, with the source of each number."""

from __future__ import annotations

from typing import Final

from ..plan import Configuration

PAPER_CONFIGURATIONS: Final = {
    "2d": Configuration(
        spacing_mm=(None, 1.0, 1.0),
        inference_spacing_mm=(2.5, 1.0, 1.0),
        patch=(224, 224),
        clip_hu=(-200.0, 300.0),
        why={
            "spacing_mm": "the paper trains on 1 x 1 mm pixels and leaves the slices as they are",
            "inference_spacing_mm": "the paper predicts at 2.5 mm between slices, so that thin slices do not cost time",
            "patch": "the paper's crop of 224 x 224",
            "normalisation": "the paper clips to a window and scales to [0, 1]",
            "clip_hu": "the paper's window",
            "neighbours": "the paper's network sees one slice",
            "interpolation": "the paper's, for images",
            "overlap": "not stated; MONAI's default of a quarter",
        },
    ),
    "3d": Configuration(
        spacing_mm=(1.0, 1.0, 1.0),
        inference_spacing_mm=(1.0, 1.0, 1.0),
        patch=(128, 128, 128),
        clip_hu=(-200.0, 300.0),
        why={
            "spacing_mm": "the paper resamples to 1 mm cubes",
            "inference_spacing_mm": "as in training",
            "patch": "the paper's crop of 128 x 128 x 128",
            "normalisation": "the paper clips to a window and scales to [0, 1]",
            "clip_hu": "the paper's window",
            "interpolation": "the paper's, for images",
            "overlap": "not stated; MONAI's default of a quarter",
        },
    ),
}
