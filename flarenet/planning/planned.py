"""What planning wrote about a data set: the fingerprint, and the plan as long as it was made from that fingerprint."""

from __future__ import annotations

from pathlib import Path

from ..errors import PlanError
from ..schema import load
from ..workspace import Workspace
from .budget import RECIPES
from .fits import check_fits
from .measuring.fingerprint import Fingerprint
from .plan import Plan
from .plan_file import load_plan


def load_fingerprint(workspace: Workspace) -> Fingerprint:
    """The fingerprint of the data set. Raises PlanError where it is missing or broken."""
    return load(Fingerprint, workspace.fingerprint, PlanError)


def load_planned(workspace: Workspace) -> Plan:
    """The plan of `workspace`, edited or not.

    Raises PlanError where it is broken, has a patch too small for a network, needs more memory than its budget, or was
    made from another fingerprint than the one next to it: for another data set, or before cases were added.
    """
    plan = load_plan(workspace.plan)
    check_fits(plan, workspace.plan)
    found = load_fingerprint(workspace).hash
    if plan.fingerprint_hash != found:
        raise PlanError(
            f"{workspace.plan}: fingerprint_hash",
            found=plan.fingerprint_hash,
            expected=f"{found}, that of {workspace.fingerprint.name}",
            remedy=f"{plan_again(plan, workspace.root)}, with the changes of this plan by --set",
        )
    return plan


def plan_again(plan: Plan, root: Path, *more: str) -> str:
    """The command that plans the data set again with the recipe and budget of `plan`; other changes of it are lost.

    root   the root of the plan's data set
    more   further words of the command; a flag of the budget among them takes the place of the plan's own
    """
    words, usual = [f"flarenet_plan {Workspace(root, plan.dataset).flags}"], RECIPES[plan.recipe].budget
    if plan.recipe != "auto":  # the command's default
        words.append(f"--recipe {plan.recipe}")
    if plan.without is not None:
        words.append(f"--without {plan.without}")
    for field, value in plan.budget:
        flag = f"--{field.replace('_', '-')} " if field != "host_memory_gb" else f"--set budget.{field}="
        if value != getattr(usual, field) and not any(word.startswith(flag) for word in more):
            words.append(flag + (value if isinstance(value, str) else f"{value:g}"))
    return " ".join([*words, *more])
