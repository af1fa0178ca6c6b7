"""The plan of a data set, as long as it is the plan of what was measured of that set."""

from __future__ import annotations

from ..errors import PlanError
from ..schema import load
from ..workspace import Workspace
from .fingerprint import Fingerprint
from .plan import Plan, load_plan


def load_planned(workspace: Workspace) -> Plan:
    """The plan of `workspace`, edited or not.

    Raises PlanError where it is broken, or made from another fingerprint than the one beside it: of another data set,
    or before cases were added.
    """
    plan = load_plan(workspace.plan)
    found = load(Fingerprint, workspace.fingerprint, PlanError).hash
    if plan.fingerprint_hash != found:
        raise PlanError(
            f"{workspace.plan}: fingerprint_hash",
            found=plan.fingerprint_hash,
            expected=f"{found}, that of {workspace.fingerprint.name}",
            remedy=f"flarenet_plan -d {workspace.dataset}, with the changes of this plan by --set",
        )
    return plan
