"""Whether a plan fits: patches their networks, and all of it in memory. This is checked before a plan is written and
before it is trained."""

from __future__ import annotations

from ..errors import PlanError
from .cost.kinds import check_halved
from .cost.memory import prediction_gb, prepared_gb, step_gb
from .plan import Plan


def check_fits(plan: Plan, source: object) -> None:
    """Raise PlanError, naming key, need and budget, for a plan that needs more memory than its budget, and for a patch
    that is too small for a U-Net.

    Every case at the training spacing must fit in `host_memory_gb`, training in `gpu_memory_gb`, and the prediction of
    95 of 100 scans in `inference_memory_gb`. A model whose prediction is not the final result predicts on the machine
    that trains, so its limit is the larger of the other two. A plan without `scans` (made by hand) is checked for
    training only.
    """
    for name, configuration in plan.configurations.items():
        for scan in plan.scans.values():
            need_gb = prepared_gb(scan, configuration)
            where = f"{source}: configurations.{name}.spacing_mm {_mm(configuration.spacing_mm)}"
            purpose = f"for a scan of {_mm(scan.extent_mm)} mm"
            _within(need_gb, plan, "host_memory_gb", where, purpose=purpose, remedy="larger spacing")
    for name, part in plan.trainers.items():
        check_halved(part.network, plan.configuration_of(name).patch, f"{source}: trainers.{name}.network")
        _check_training(plan, name, source)
        if "large" in plan.scans and part.network.groups:
            configuration = plan.configuration_of(name)
            need_gb = prediction_gb(
                plan.scans["large"], configuration, part.network, plan.labels.outputs, fusion=plan.fusion
            )
            field = "inference_memory_gb" if name in plan.final_trainers else _larger(plan)
            where = f"{source}: configurations.{part.configuration}.inference_spacing_mm"
            where += f" {_mm(configuration.inference_spacing_mm)}, prediction by {name}"
            _within(need_gb, plan, field, where, purpose="for a large scan", remedy="larger spacing")


def _larger(plan: Plan) -> str:
    return "host_memory_gb" if plan.budget.host_memory_gb > plan.budget.gpu_memory_gb else "gpu_memory_gb"


def _check_training(plan: Plan, name: str, source: object) -> None:
    patch = _mm(plan.configuration_of(name).patch)
    for number, step in enumerate(plan.trainer(name).steps):
        key = f"{source}: trainers.{name}.steps.{number}.batch_size {step.batch_size} with patch {patch}"
        remedy = "a smaller batch, patch or network, more parts by update.accumulate"
        _within(step_gb(plan, name, step), plan, "gpu_memory_gb", key, purpose="to train", remedy=remedy)


def _within(need_gb: float, plan: Plan, field: str, where: str, *, purpose: str, remedy: str) -> None:
    allowed_gb = getattr(plan.budget, field)
    if need_gb > allowed_gb:
        raise PlanError(
            where,
            found=f"needs about {need_gb:.1f} GB {purpose}",
            expected=f"at most {allowed_gb:g} GB, the plan's budget.{field}",
            remedy=f"{remedy}, or a larger {field}",
        )


def _mm(numbers: tuple[float | None, ...]) -> str:
    return " x ".join("own" if number is None else f"{number:g}" for number in numbers)
