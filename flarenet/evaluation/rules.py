"""How masks become scores: *plain* scores what was annotated, *official* is the FLARE23 challenge's evaluation with its
quirks, each a field of Rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..data.labels import LabelPattern, LabelSet


@dataclass(frozen=True)
class Rules:
    """How masks become scores.

    mode           the name that tables carry
    every_label    score every label of the table in every case, annotated or not
    lowest_dsc     below it the NSD counts as 0
    tubes          labels scored only on the truth's axial slices [zmin, zmax): half open, so that the truth's last
                   slice is dropped. An organ on a single slice would leave nothing, for which the challenge's code
                   has no value (0 / 0); it is scored on that slice
    digits         to which DSC and NSD of cases, classes and groups are rounded; None: not at all
    """

    mode: str
    every_label: bool = False
    lowest_dsc: float = 0.0
    tubes: frozenset[str] = frozenset()
    digits: int | None = None

    def rounded(self, value: float) -> float:
        return float(value if self.digits is None else np.round(value, self.digits))

    def asked(self, annotated: Iterable[int] | None, labels: LabelSet) -> LabelPattern:
        """The values to score; all of the table where nobody knows what was annotated (None)."""
        return frozenset(labels.values if self.every_label or annotated is None else annotated)


PLAIN = Rules("plain")
OFFICIAL = Rules(
    "official",
    every_label=True,
    lowest_dsc=0.2,
    tubes=frozenset({"aorta", "inferior vena cava", "esophagus"}),
    digits=4,
)
