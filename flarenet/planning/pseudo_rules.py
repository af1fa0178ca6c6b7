"""What pseudo labels must fulfil before a step learns from them, as data of a plan; pseudo.filters applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from ..data.labels import LabelSet
from ..errors import PlanError
from ..schema import Frozen
from .runs import Run, RunName

Share = Annotated[float, Field(ge=0, le=1)]


class PseudoRules(Frozen):
    """How the labels that a step's teachers fill in are made and filtered. By default they are taken as predicted.

    passes      how often each teacher predicts a scan: as it is, then moved by some voxels and a little brighter or
                darker. It is never mirrored, because left and right are different labels
    earlier     group -> run of an earlier round, which predicts in addition to the teacher
    agreement   a voxel gets the label that most of these sources predict if at least this share of them predicts it;
                else it is hidden
    least_mm3   lesions (LabelSet.lesions) smaller than this are hidden
    hosts       lesion label -> labels; a lesion that touches none of them is hidden. "drawn": the labels in which the
                annotated lesions lie; "any": no lesion is hidden for its place
    drop_share  of the cases in which sources predict a label of a group, the share whose pseudo labels of that group
                are not used: the cases with the least agreement
    """

    passes: Annotated[int, Field(ge=1, le=16)] = 1
    earlier: dict[str, RunName] = Field(default_factory=dict)
    agreement: Share = 0.0
    least_mm3: Annotated[float, Field(ge=0)] = 0.0
    hosts: Literal["any", "drawn"] | dict[str, tuple[str, ...]] = "any"
    drop_share: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def alone(self, field: str | None) -> PseudoRules:
        """The rules with the same sources that filter by `field` alone; None: that filter nothing."""
        kept = {name: getattr(self, name) for name in ("passes", "earlier", *([field] if field else []))}
        return PseudoRules(**kept)


FILTERS: Final = ("least_mm3", "hosts", "agreement", "drop_share")
"""The fields of PseudoRules that take labels away, in the order in which they are applied."""

UNFILTERED: Final = PseudoRules()

AUTO_RULES: Final = PseudoRules(passes=3, agreement=1.0, least_mm3=65.0, hosts="drawn", drop_share=0.1)

AUTO_RULES_WHY: Final = {
    "passes": "three passes tell a firm answer from chance, in three times the time of one prediction",
    "agreement": "nothing is taught where one pass differs",
    "least_mm3": "a ball 5 mm across; RECIST calls lesions of less than 10 mm not measurable",
    "hosts": "a lesion is trusted where people drew lesions",
    "drop_share": "the tenth of the cases on which the passes differ most is left out",
}


def check_rules(rules: PseudoRules, teachers: Mapping[str, Run], labels: LabelSet, where: str) -> None:
    """Raise PlanError where rules of a step name what does not exist, or measure the agreement of a single source."""
    for group in rules.earlier:
        if group not in teachers:
            raise PlanError(f"{where}.earlier", found=f"group {group!r}", expected=f"one of {list(teachers)}")
    if rules.passes == 1 and set(rules.earlier) != set(teachers) and (rules.drop_share or rules.agreement):
        key, fields = where.rpartition(": ")[2], "agreement and drop_share"
        alone = " ".join(f"{key}.{name}=0" for name in ("agreement", "drop_share"))
        raise PlanError(
            f"{where}: {fields}",
            found="one source, which agrees with itself",
            expected="0 for both, or passes of 2 or more, or earlier runs",
            remedy=f"--set {key}.passes=1 {alone}, or --set {key}=null to take all that is predicted",
        )
    if isinstance(rules.hosts, dict):
        for name in (*rules.hosts, *(host for hosts in rules.hosts.values() for host in hosts)):
            if name not in labels.names[1:]:
                raise PlanError(f"{where}.hosts", found=f"label {name!r}", expected=", ".join(labels.names[1:]))
