"""Reads, changes and writes plans. A plan is checked whenever it is read or changed.

Whether it fits (check_fits) is checked where it is changed and where it is trained (planned.load_planned), not where it
is read: the plan of a finished model holds whatever memory it was made for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..errors import PlanError, UsageError
from ..schema import load, parse, save_to_load
from .assign import assign, key_and_value
from .cost.kinds import check_numbers
from .fits import check_fits
from .fusion import check_fusion
from .plan import Configuration, Plan, TrainerPlan
from .runs import Run
from .steps import check_groups, check_step, check_warm_ups

FACTS: Final = (
    "version", "recipe", "without", "dataset", "labels", "fingerprint_hash", "scans", "budget.size", "budget.network"
)  # fmt: skip
"""The keys that `override` refuses: a plan only repeats what they say. They are changed where they come from."""


def load_plan(path: str | Path) -> Plan:
    """Read and check a plan. Raises PlanError naming file, key, found and expected."""
    plan = load(Plan, path, PlanError)
    _check(plan, path)
    return plan


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan. Raises PlanError where it is larger than load_plan takes."""
    save_to_load(plan, path, PlanError)


def override(plan: Plan, changes: Iterable[str], *, trained: bool = False) -> Plan:
    """`plan` with `key=value` changes, checked again.

    trained  whether a model has been trained by the plan. Then, beyond types, only the fusion is checked: a scan is
             predicted whatever memory was planned for

    A key is a path into the plan, as in `trainers.DualDecoder2D.steps.0.epochs` or `configurations.2d.patch`. A `*`
    stands for every entry (`trainers.*.steps.*.epochs`), except those in which a part of the path is null
    (`trainers.*.steps.*.pseudo.passes` changes the steps that have pseudo labels). A value is JSON, or a bare word,
    which is a string. Reasons change as assign says. Raises UsageError for a key that names nothing or one of FACTS,
    and PlanError for a value that does not fit, or that leaves a step nothing but its warm-up.
    """
    data, changes = plan.model_dump(mode="json"), list(changes)
    for change in changes:
        key, text = key_and_value(change)
        if key in FACTS or key.split(".")[0] in FACTS:
            remedy = "change dataset.json, or plan again with --recipe, --without, --size or --network"
            raise UsageError(f"--set {change!r}", found="a fact", expected="a choice", remedy=remedy)
        assign(data, key, text)
    source = "--set" if changes else "the plan"
    changed = parse(Plan, data, source, PlanError)
    if trained:
        check_fusion(changed.fusion, changed.labels, f"{source}: fusion")
    else:
        _check(changed, source)
        check_fits(changed, source)
        check_warm_ups(changed, plan, source)
    return changed


def _check(plan: Plan, source: object) -> None:
    """Raise PlanError where the parts of a plan do not fit each other, which their types alone cannot ensure."""
    for name, configuration in plan.configurations.items():
        _check_configuration(configuration, f"{source}: configurations.{name}")
    for name, part in plan.trainers.items():
        where = f"{source}: trainers.{name}"
        if part.configuration not in plan.configurations:
            real = ", ".join(plan.configurations)
            raise PlanError(f"{where}.configuration", found=part.configuration, expected=real)
        configuration = plan.configuration_of(name)
        patch = configuration.patch
        if len(patch) != part.network.dimensions:
            raise PlanError(f"{where}: patch", found=patch, expected=f"{part.network.dimensions} numbers")
        _check_channels(part, configuration, where)
        check_groups(part.network.groups, plan.labels, f"{where}.network")
        check_numbers(part.network, patch, f"{where}.network")
        for number, step in enumerate(part.steps):
            check_step(step, plan, Run(name, number + 1), f"{where}.steps.{number}")
    check_fusion(plan.fusion, plan.labels, f"{source}: fusion")


def _check_configuration(configuration: Configuration, where: str) -> None:
    _check_window(configuration, f"{where}.clip_hu")
    for field in ("spacing_mm", "inference_spacing_mm"):
        spacing = getattr(configuration, field)
        if any(mm is not None and mm <= 0 for mm in spacing):
            raise PlanError(f"{where}.{field}", found=spacing, expected="distances above 0 mm")
    if len(configuration.patch) not in (2, 3):
        raise PlanError(f"{where}.patch", found=configuration.patch, expected="2 or 3 numbers")
    if configuration.neighbours and len(configuration.patch) == 3:
        raise PlanError(f"{where}.neighbours", found=configuration.neighbours, expected="0: a block has its own depth")


def _check_window(configuration: Configuration, where: str) -> None:
    window = configuration.clip_hu
    if (window is None) != (configuration.normalisation == "percentile"):
        expected = "null with normalisation 'percentile', two numbers with 'window'"
        raise PlanError(where, found=window, expected=expected)
    if window is not None and window[0] >= window[1]:
        raise PlanError(where, found=window, expected="the lower bound first")


def _check_channels(part: TrainerPlan, configuration: Configuration, where: str) -> None:
    channels = 1 + 2 * configuration.neighbours
    if part.network.input_channels != channels:
        expected = f"{channels}: a slice and {configuration.neighbours} neighbours on either side"
        raise PlanError(f"{where}.network.input_channels", found=part.network.input_channels, expected=expected)
