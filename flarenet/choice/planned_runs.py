"""The training runs behind models that are to be scored: each run once, identified by all that determines it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..errors import PlanError
from ..planning.facts import prediction_facts, training_facts
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import Plan
from ..planning.runs import Run
from ..pseudo.sources import runs_asked
from ..schema import digest
from .variants import Answer


@dataclass(frozen=True)
class PlannedRun:
    """A training run to be made.

    key       SHA-256 of all that determines its weights
    needs     run of the same plan -> its key, for every run that it builds on, directly or not
    teachers  keys of the runs whose models make its pseudo labels
    """

    key: str
    plan: Plan
    run: Run
    needs: Mapping[Run, str]
    teachers: frozenset[str]

    @property
    def name(self) -> str:
        return name_of(self.run, self.key)


def data_key(fingerprint: Fingerprint) -> str:
    """Identifies what can be learned from a data set: the bytes of its cases, and what was looked for in them."""
    return digest([[case.key, list(case.annotated)] for case in fingerprint.cases])


def planned_runs(answer: Answer, held_out: Collection[str], *, data: str) -> dict[Run, PlannedRun]:
    """Run -> PlannedRun, for the run of `answer` and all that it builds on; each run after those that it needs.

    data  as data_key gives it
    Two runs with the same key would have the same weights, even if they belong to different variants. The key covers
    the step and its trainer's part of the plan, the configuration, labels and groups, seed and precision, the data, the
    cases held out, and the keys of the runs it builds on. It covers how the model predicts only if the model teaches
    another run of its plan.
    Raises PlanError where runs build on each other in a circle.
    """
    plan, order = answer.plan, _order(answer.plan, answer.run)
    teaching = {teacher for run in plan.runs for teacher in runs_asked(plan.step(*run))}
    made: dict[Run, PlannedRun] = {}
    for run in order:
        step = plan.step(*run)
        keys = {each: made[each].key for each in step.builds_on}
        needs = {name: key for each in keys for name, key in [*made[each].needs.items(), (each, keys[each])]}
        key = _key(plan, run, keys, held_out, data=data, teaches=run in teaching)
        teachers = frozenset(made[each].key for each in runs_asked(step))
        made[run] = PlannedRun(key, plan, run, needs, teachers)
    return made


def name_of(run: Run, key: str) -> str:
    """The name of a run, for its folder and in messages."""
    return f"{run.trainer}-step_{run.step}-{key[:12]}"


def waves(runs: Iterable[PlannedRun], done: Collection[str]) -> list[list[PlannedRun]]:
    """`runs` in turns: all runs of a turn may be trained in parallel once the earlier turns are over.

    done  keys of runs that are finished already
    Two runs with a common teacher are never in the same turn: both would make the same pseudo labels in the same place.
    """
    left, there, turns = {run.key: run for run in runs if run.key not in done}, set(done), list[list[PlannedRun]]()
    while left:
        turn, busy = list[PlannedRun](), set[str]()
        for run in left.values():
            if there.issuperset(run.needs.values()) and busy.isdisjoint(run.teachers):
                turn.append(run)
                busy |= run.teachers
        for run in turn:
            del left[run.key]
        there |= {run.key for run in turn}
        turns.append(turn)
    return turns


def _order(plan: Plan, last: Run) -> list[Run]:
    order: list[Run] = []

    def visit(run: Run, above: tuple[Run, ...]) -> None:
        if run in above:
            circle = " on ".join(map(str, [*above[above.index(run) :], run]))
            raise PlanError("runs of the plan", found=f"{circle}, which build on each other", expected="no circle")
        if run not in order:
            for before in plan.step(*run).builds_on:
                visit(before, (*above, run))
            order.append(run)

    visit(last, ())
    return order


def _key(plan: Plan, run: Run, needs: Mapping[Run, str], held_out: Collection[str], *, data: str, teaches: bool) -> str:
    trainer, step = run
    part = plan.trainer(trainer)
    predicts = prediction_facts(plan.configuration_of(trainer), plan.fusion, whole=False)
    return digest(
        {
            "trainer": trainer,
            "training": training_facts(plan, part, step=plan.step(trainer, step)),
            "predicts": predicts if teaches else None,
            "precision": plan.precision,
            "data": data,
            "held_out": sorted(held_out),
            "needs": dict(sorted((str(needed), key) for needed, key in needs.items())),
        }
    )
