"""Lists of variants, and the plans that they stand for: what flarenet_ablate compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..data.names import check_name
from ..errors import FlarenetError, UsageError, unknown
from ..planning.budget import RECIPES, Budget, Recipe, Request
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import Plan
from ..planning.plan_file import override
from ..planning.rules.epochs import with_epochs
from ..planning.rules.patterns import with_any_of
from ..planning.runs import Run
from ..schema import Frozen, load, parse
from ..trainers import TRAINERS
from ..trainers.planner import make_plan

ENDING = ".json"


class Variant(Frozen):
    """One of the variants that an ablation compares.

    recipe   recipe of its plan; None: that of the data set's plan
    budget   fields of planning.budget.Budget that it changes, such as {"network": "unetr"}. The others are those of the
             data set's plan or, if the recipe differs from that plan's, the recipe's own
    without  "unlabelled": as flarenet_plan --without; "nothing": with all cases; None: as the data set's plan
    heads    how the labels of several groups are predicted. "decoders": as planned, each group by a decoder of one
             network; "networks": each group by a network of its own; "joint": all labels by one head
    set      "KEY=VALUE" changes of its plan
    score    the models to score, as "TRAINER" (its last step) or "TRAINER/STEP"; the probabilities of several are
             averaged. Only these, and the runs that they build on, are trained
    """

    name: str
    recipe: Recipe | None = None
    budget: dict[str, JsonValue] = Field(default_factory=dict)
    without: Literal["unlabelled", "nothing"] | None = None
    heads: Literal["decoders", "networks", "joint"] = "decoders"
    changes: tuple[str, ...] = Field(default=(), alias="set")
    score: Annotated[tuple[str, ...], Field(min_length=1)]


class AblationList(Frozen):
    """What a list file holds.

    about  what the list is for
    set    "KEY=VALUE" changes of every variant's plan, made before the variant's own
    """

    version: Literal[1] = 1
    about: str = ""
    changes: tuple[str, ...] = Field(default=(), alias="set")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Answer:
    """A run whose model is scored, and the plan that it is trained by."""

    plan: Plan
    run: Run


def shipped_lists() -> dict[str, AblationList]:
    """The lists that come with flarenet, by name."""
    found = {}
    for entry in sorted((files(__package__) / "lists").iterdir(), key=lambda entry: entry.name):
        with as_file(entry) as path:
            found[entry.name.removesuffix(ENDING)] = load(AblationList, path, UsageError)
    return found


def find_list(typed: str) -> tuple[str, AblationList]:
    """(name, content) of a list file, or of a list that comes with flarenet. Raises UsageError for anything else."""
    if not typed.endswith(ENDING):
        known = shipped_lists()
        if typed not in known:
            raise unknown("list", typed, known, otherwise="a file of yours: LIST.json")
        return typed, known[typed]
    name, found = Path(typed).name.removesuffix(ENDING), load(AblationList, typed, UsageError)
    for variant in found.variants:
        check_name(variant.name, f"{typed}: the name of a variant")
    twice = [name for name, count in Counter(variant.name for variant in found.variants).items() if count > 1]
    if twice:
        raise UsageError(typed, found=f"two variants {twice[0]!r}", expected="a name for each")
    return name, found


def answers_of(
    variant: Variant,
    *,
    base: Plan,
    fingerprint: Fingerprint,
    seed: int,
    changes: Sequence[str] = (),
    epochs: int | None = None,
) -> tuple[Answer, ...]:
    """The runs to train and score for a variant with one seed, each with its plan.

    The plan is made from the fingerprint. Where the variant does not state recipe, budget or cases to leave out, they
    are those of `base`, the plan of the data set.
    changes  all changes of the plan, as list_changes gives them
    epochs   epochs of every step, in place of the plan's
    Raises as make_plan, naming the variant, and UsageError for a run that is not in the plan.
    """
    try:
        plan = _plan(variant, base, fingerprint, (*changes, f"seed={seed}"))
        if epochs is not None:
            for trainer in plan.trainers:
                plan = with_epochs(plan, trainer, epochs)
        runs = [_run(plan, typed) for typed in variant.score]
        if variant.heads == "networks":
            return tuple(Answer(_of_group(plan, run, group), run) for run in runs for group in plan.labels.groups)
        return tuple(Answer(plan, run) for run in runs)
    except FlarenetError as error:
        named = f"variant {variant.name!r}: {error.thing}"
        raise type(error)(named, found=error.found, expected=error.expected, remedy=error.remedy) from error


def list_changes(ablation: AblationList, variant: Variant, more: Iterable[str]) -> tuple[str, ...]:
    """All changes of a variant's plan, in order: those of the list, the variant's own, then `more`."""
    return (*ablation.changes, *variant.changes, *more)


def _plan(variant: Variant, base: Plan, fingerprint: Fingerprint, changes: Sequence[str]) -> Plan:
    recipe = variant.recipe or base.recipe
    budget = base.budget if recipe == base.recipe else RECIPES[recipe].budget
    budget = parse(Budget, budget.model_dump() | variant.budget, "budget", UsageError)
    without = None if variant.without == "nothing" else variant.without or base.without
    facts = _in_one_group(fingerprint) if variant.heads == "joint" else fingerprint
    return make_plan(facts, Request(recipe, budget, without), changes=changes)


def _in_one_group(fingerprint: Fingerprint) -> Fingerprint:
    """The fingerprint with all labels in one group, so that lesions and organs exclude each other in one softmax."""
    labels = fingerprint.labels.model_copy(update={"groups": {"all": fingerprint.labels.values}})
    return fingerprint.model_copy(update={"labels": labels})


def _run(plan: Plan, typed: str) -> Run:
    trainer, _, step = typed.partition("/")
    if trainer not in TRAINERS:
        raise unknown("trainer", trainer, TRAINERS)
    last = len(plan.trainer(trainer).steps)
    if step and not (step.isdigit() and 1 <= int(step) <= last):
        raise UsageError(f"score {typed!r}", found=f"step {step}", expected=f"1 to {last}")
    if not plan.trainer(trainer).network.groups:
        raise UsageError(f"score {typed!r}", found="a trainer that does not segment", expected="one that does")
    return Run(trainer, int(step or last))


def _of_group(plan: Plan, run: Run, group: str) -> Plan:
    """A plan in which the trainer of `run` predicts `group` alone, on the cases annotated for it."""
    trainer = run.trainer
    changes = [f'trainers.{trainer}.network.groups=["{group}"]', f'trainers.{trainer}.steps.*.groups=["{group}"]']
    for number, step in enumerate(plan.trainer(trainer).steps):
        if step.trained or step.teachers:
            raise UsageError(
                f"heads 'networks' of {trainer}",
                found=f"step {number + 1}, with teachers or with parts frozen",
                expected="a trainer without either, as Joint",
            )
        serving = with_any_of(step.subset.patterns, plan.labels.groups[group])
        if not serving:
            raise UsageError(f"heads 'networks' of {trainer}", found=f"no case annotated for {group}", expected="some")
        patterns = [list(pattern) for pattern in serving]
        changes.append(f"trainers.{trainer}.steps.{number}.subset.patterns={patterns}")
    # this trainer alone: as a teacher of other trainers it would no longer answer their groups
    return override(plan.model_copy(update={"trainers": {trainer: plan.trainer(trainer)}}), changes)
