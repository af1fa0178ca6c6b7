"""How masks become scores. *plain* scores what was annotated; *official* is the evaluation of the FLARE23 challenge
with its quirks, each a field of Rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.label_table import plain
from ..data.labels import LabelPattern, LabelSet
from ..data.layouts.flare import FLARE23


@dataclass(frozen=True)
class Rules:
    """How masks become scores. Labels are named as label_table.plain writes names.

    mode          the name that tables give the rules
    every_label   whether every label of the table is scored in every case, annotated or not
    lowest_dsc    where the DSC is below it, the NSD counts as 0
    tubes         labels scored only on the truth's axial slices [zmin, zmax): half open, so the truth's last slice is
                  dropped. Of an organ on a single slice nothing would remain, and the challenge's code would compute
                  0 / 0; here it is scored on that slice
    tolerance_mm  label -> tolerance, for all labels of a challenge; used where the label table states none
    ignores       whether voxels that a truth ignores are left out; if not, such a truth is not scored
    digits        decimals of DSC and NSD of cases, classes and groups; None: not rounded
    """

    mode: str
    every_label: bool = False
    lowest_dsc: float = 0.0
    tubes: frozenset[str] = frozenset()
    tolerance_mm: Mapping[str, float] = field(default_factory=dict)
    ignores: bool = True
    digits: int | None = None

    def rounded(self, value: float) -> float:
        return float(value if self.digits is None else np.round(value, self.digits))

    def to_score(self, annotated: Iterable[int] | None, labels: LabelSet) -> LabelPattern:
        """The values to score; all of the table with `every_label`, or if `annotated` is None (not known)."""
        return frozenset(labels.values if self.every_label or annotated is None else annotated)

    def is_tube(self, name: str) -> bool:
        return plain(name) in self.tubes

    def tolerance_of(self, value: int, labels: LabelSet) -> float:
        """The tolerance in mm of a label value."""
        name = labels.names[value]
        stated = name in labels.tolerance_mm
        return labels.tolerance_of(value) if stated else self.tolerance_mm.get(plain(name), labels.tolerance_of(value))

    def differing(self, labels: LabelSet) -> set[str]:
        """The labels for which the table states another tolerance than the challenge."""
        return {name for name, mm in labels.tolerance_mm.items() if self.tolerance_mm.get(plain(name), mm) != mm}

    def lacking(self, labels: LabelSet) -> set[str]:
        """The labels of the challenge that the table does not name."""
        return set(self.tolerance_mm).difference(map(plain, labels.names))


PLAIN = Rules("plain")
OFFICIAL = Rules(
    "official",
    every_label=True,
    lowest_dsc=0.2,
    tubes=frozenset({"aorta", "inferior vena cava", "esophagus"}),
    tolerance_mm={plain(FLARE23.names[value]): FLARE23.tolerance_of(value) for value in FLARE23.values},
    ignores=False,
    digits=4,
)
