"""How the predictions of the groups become one label map, as data of a plan; applied by inference.fuse and .settle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..data.labels import LabelSet
from ..data.sides import mirrored
from ..errors import PlanError
from ..schema import Frozen


class Fusion(Frozen):
    """The rules of fusion. The defaults are the paper's: each group's best label, later groups laid over earlier ones.

    rule         "overlay"; or "probability": the most probable label, see inference.fuse
    flips        whether the scan is also predicted mirrored left to right; the probabilities are averaged
    largest      labels of which only the largest connected part is kept
    least_ml     label -> volume: connected parts of the label that are smaller are removed
    least_share  label -> share: connected parts of the label that are smaller than this share of its largest part are
                 removed
    hosts        label -> other labels, its hosts: connected parts of the label are removed that neither overlap nor
                 touch a host, nor come within near_mm of one
    near_mm      see hosts
    """

    rule: Literal["overlay", "probability"] = "overlay"
    flips: bool = False
    largest: tuple[str, ...] = ()
    least_ml: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    least_share: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    hosts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    near_mm: Annotated[float, Field(ge=0)] = 0.0

    @property
    def needs_parts(self) -> bool:
        """Whether a rule needs connected parts, so that no slice is final before the last one has been predicted."""
        return bool(self.sized or self.hosts)

    @property
    def sized(self) -> frozenset[str]:
        """The labels of which connected parts are removed for their size."""
        return frozenset((*self.largest, *self.least_ml, *self.least_share))


def check_fusion(fusion: Fusion, labels: LabelSet, where: str) -> None:
    """Raise PlanError for a name that is no label of the table, for hosts that are none or the label itself, and for
    flips where a label lacks its counterpart."""
    hosts = [host for those in fusion.hosts.values() for host in those]
    named = {field: getattr(fusion, field) for field in ("largest", "least_ml", "least_share")}
    named["hosts"] = (*fusion.hosts, *hosts)
    for field, names in named.items():
        for name in names:
            if name not in labels.names[1:]:
                raise PlanError(f"{where}.{field}", found=f"label {name!r}", expected=", ".join(labels.names[1:]))
    for name, those in fusion.hosts.items():
        if name in those or not those:
            raise PlanError(f"{where}.hosts.{name}", found=list(those), expected="other labels, one or more")
    if fusion.flips:
        for values in labels.groups.values():
            mirrored([labels.names[value] for value in values])
