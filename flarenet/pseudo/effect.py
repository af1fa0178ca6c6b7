"""The effect of each filter of pseudo labels on annotated cases: how much it keeps, and how correct that is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from ..data.components import find_components
from ..data.dataset import Case
from ..data.labels import HIDDEN, LabelSet, split
from ..data.settled import load_settled
from ..data.store import Store
from ..errors import UsageError
from ..planning.plan import Plan, Step
from ..planning.pseudo_rules import FILTERS, UNFILTERED, PseudoRules
from ..planning.runs import Run
from ..schema import Frozen, save
from ..terminal import new_table, show
from ..whole import write_csv
from ..workspace import Workspace
from .filters import deviation_from_mean, worst
from .opinion import Hosts, annotated_map
from .teachers import Teachers, for_cases


class Effect(Frozen):
    """What is left of one label after one filter. Shares and dsc are None where there is nothing to count.

    filter            a name of FILTERS, "none" or "all"
    dsc               Dice of truth and pseudo label over the voxels that are not hidden, all cases together
    hidden            share of the label's voxels, in truth or pseudo label, that are hidden, in the cases not left out
    cases             number of cases
    dropped           number of cases that are left out
    dropped_of_group  the same of all cases of the group, also of those in which this label was not looked for
    kept              number of predicted lesions of which a voxel is left; 0 for organs
    removed           number of predicted lesions of which no voxel is left; 0 for organs
    precision         share of the kept lesions that overlap a true one
    recall            share of all true lesions that a kept voxel lies in
    """

    group: str
    filter: str
    label: str
    dsc: float | None
    hidden: float | None
    cases: int
    dropped: int
    dropped_of_group: int
    kept: int = 0
    removed: int = 0
    precision: float | None = None
    recall: float | None = None


class Effects(Frozen):
    """The effects of the filters of one step.

    step        the step, as "TRAINER/STEP"
    hosts       lesion -> the organs in which it is accepted
    cases       names of the cases
    trained_on  whether the teachers learned from these cases, so that all numbers are better than on new ones
    """

    step: str
    rules: PseudoRules
    hosts: dict[str, tuple[str, ...]]
    cases: tuple[str, ...]
    trained_on: bool
    effects: tuple[Effect, ...]


class Counts(NamedTuple):
    """Counts of one label in one case.

    hits     voxels of both the truth and the filtered pseudo label
    sizes    voxels of the truth plus voxels of the filtered pseudo label, where nothing is hidden
    either   voxels of the truth or of the unfiltered pseudo label
    hidden   voxels among `either` that the filter hid
    kept     lesions of the pseudo label of which a voxel is left
    removed  its other lesions
    right    kept lesions that, before the filter, overlap a true one
    found    true lesions that a kept voxel lies in
    there    true lesions
    """

    hits: int
    sizes: int
    either: int
    hidden: int
    kept: int
    removed: int
    right: int
    found: int
    there: int

    @property
    def left_out(self) -> Counts:
        """The counts of the same case if it is dropped."""
        return Counts(0, 0, 0, 0, 0, self.kept + self.removed, 0, 0, self.there)


def find_effects(teachers: Teachers, run: Run, plan: Plan, workspace: Workspace, *, test: bool = False) -> Effects:
    """The effects of filters on the pseudo labels that `teachers` make for the step `run` of a plan.

    test  measure on the test cases instead of the training cases that truth_cases chooses
    Where the rules take hosts from annotated lesions, these are of the step's other cases; of all, if the teachers may
    have learned from the cases measured.
    Raises UsageError where no case has labels.
    """
    dataset, labels, step = load_settled(workspace.settled), plan.labels, plan.step(*run)
    offered = [case for case in (dataset.test if test else dataset.cases) if case.label is not None]
    seen = () if test else teachers.sources.seen
    cases, trained_on = truth_cases(offered, labels, tuple(step.teachers), seen=seen)
    if not any(cases.values()):
        expected = f"cases with some of the groups {', '.join(step.teachers)} annotated"
        raise UsageError(f"the {'test' if test else 'training'} cases", found="no labels", expected=expected)
    names = sorted({case.name for found in cases.values() for case in found})
    others = [case for case in step.subset.of(dataset.cases) if trained_on or case.name not in names]
    hosts = _hosts(teachers, step, labels, others, Store(workspace.store(plan.trainer(run.trainer).configuration)))
    return Effects(
        step=str(run),
        rules=step.pseudo_rules,
        hosts={labels.names[lesion]: labels.names_of(of) for lesion, of in hosts.items()},
        cases=tuple(names),
        trained_on=trained_on,
        effects=tuple(
            effect
            for group, found in cases.items()
            for effect in measure(teachers, step.pseudo_rules, labels, group, cases=found, hosts=hosts)
        ),
    )


def _hosts(teachers: Teachers, step: Step, labels: LabelSet, cases: Sequence[Case], prepared: Store) -> Hosts:
    there = set(prepared.names()) if step.pseudo_rules.hosts == "drawn" else set()
    telling = [case for case in cases if case.annotated & set(labels.lesions) and case.name in there]
    looked = teachers.look(telling, {case.name: prepared.record(case.name) for case in telling})
    return teachers.judge(looked, held_out=()).hosts


def variants(rules: PseudoRules, *, lesions: bool) -> dict[str, PseudoRules]:
    """The rules to compare: none, each filter alone that `rules` apply to a group of this kind, and all together."""
    used = [name for name in FILTERS if getattr(rules, name) != getattr(UNFILTERED, name)]
    of_both = [name for name in used if lesions or name in ("agreement", "drop_share")]
    return {"none": rules.alone(None), **{name: rules.alone(name) for name in of_both}, "all": rules}


def count(truth: np.ndarray, said: np.ndarray, kept: np.ndarray, *, labels: int, lesions: bool) -> list[Counts]:
    """The Counts of each of a group's `labels`, from maps uint8 [Z, Y, X].

    truth  the annotations
    said   what the sources predict
    kept   what a filter left of `said`
    """
    where = ((truth > 0) | (said > 0)) & (truth != HIDDEN)
    true, seen, left = truth[where], said[where], kept[where]
    visible, alike = left != HIDDEN, true == seen

    def of(values: np.ndarray) -> np.ndarray:
        return np.bincount(values, minlength=HIDDEN + 1)[1 : labels + 1]

    hits, sizes = of(true[true == left]), of(true[visible]) + of(left[visible])
    either = of(true) + of(seen) - of(true[alike])
    hidden = of(true[~visible]) + of(seen[~visible]) - of(true[~visible & alike])
    voxels = np.stack([hits, sizes, either, hidden], axis=1).tolist()
    told = truth != HIDDEN
    found = [
        _lesions(truth == n, (said == n) & told, (kept == n) & told) if lesions else [0] * 5
        for n in range(1, labels + 1)
    ]
    return [Counts(*row, *counted) for row, counted in zip(voxels, found)]


def _lesions(truth: np.ndarray, said: np.ndarray, kept: np.ndarray) -> list[int]:
    """[kept, removed, right, found, there] of Counts, from bool masks [Z, Y, X] of one label."""
    seen, true = find_components(said.astype(np.uint8)), find_components(truth.astype(np.uint8))
    left = np.unique(seen.number[kept[seen.box.slices] & (seen.number > 0)])
    right = np.intersect1d(left, seen.number[truth[seen.box.slices]])
    found = np.unique(true.number[kept[true.box.slices] & (true.number > 0)])
    return [len(left), len(seen.label) - 1 - len(left), len(right), len(found), len(true.label) - 1]


def truth_cases(
    cases: Sequence[Case], labels: LabelSet, groups: Sequence[str], *, seen: Collection[str] | None
) -> tuple[dict[str, list[Case]], bool]:
    """(group -> the cases annotated for some of it, whether a teacher may have learned from these).

    seen  names of the cases that teachers learned from; None: unknown
    Only cases that no teacher has seen, and False; where no group has one, or `seen` is unknown, all cases, and True.
    """
    annotated = {group: [case for case in cases if case.annotated & set(labels.groups[group])] for group in groups}
    learned = {case.name for case in cases} if seen is None else seen
    unseen = {group: [case for case in found if case.name not in learned] for group, found in annotated.items()}
    return (unseen, False) if any(unseen.values()) else (annotated, True)


def measure(
    teachers: Teachers, rules: PseudoRules, labels: LabelSet, group: str, *, cases: Sequence[Case], hosts: Hosts
) -> list[Effect]:
    """The effects on one group, over `cases` annotated for some of it; pseudo labels are made as if they were not."""
    values = labels.groups[group]
    lesions = labels.of_lesions(group)
    ways = variants(rules, lesions=lesions)

    def ask(case: Case) -> tuple[Mapping[int, float], dict[str, list[Counts]]]:
        said = teachers.ask(case, case.annotated - set(values))
        opinion = said.opinions[group]
        truth = split(annotated_map(case, labels, said.grid), labels, case.annotated)[group]
        counts, untold = {}, (truth > 0) & (truth != HIDDEN)
        for way, alone in ways.items():
            kept = said.filtered(group, alone, hosts, untold=untold)[0]
            counts[way] = count(truth, opinion.label, kept, labels=len(values), lesions=lesions)
        return opinion.likeness, counts

    asked = for_cases(cases, f"filters of {group}", ask)
    ranked = deviation_from_mean({name: likeness for name, (likeness, _) in asked.items()})
    dropped = {way: worst(ranked, alone.drop_share) for way, alone in ways.items()}
    found = []
    for index, value in enumerate(values):
        names = [case.name for case in cases if value in case.annotated]
        for way in ways if names else ():
            of_cases = {name: asked[name][1][way][index] for name in names}
            found.append(_effect(of_cases, dropped[way], group=group, way=way, label=labels.names[value]))
    return found


def _effect(of_cases: Mapping[str, Counts], dropped: Collection[str], *, group: str, way: str, label: str) -> Effect:
    counts = [found.left_out if name in dropped else found for name, found in of_cases.items()]
    total = Counts(*(sum(column) for column in zip(*counts)))
    return Effect(
        group=group,
        filter=way,
        label=label,
        dsc=_share(2 * total.hits, total.sizes),
        hidden=_share(total.hidden, total.either),
        cases=len(of_cases),
        dropped=len(of_cases.keys() & set(dropped)),
        dropped_of_group=len(dropped),
        kept=total.kept,
        removed=total.removed,
        precision=_share(total.right, total.kept),
        recall=_share(total.found, total.there),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def write_effects(folder: Path, effects: Effects) -> None:
    """Write `filters.json` and, with a row per group, label and filter, `filters.csv` to `folder`."""
    save(effects, folder / "filters.json")
    rows = (list(effect.model_dump().values()) for effect in effects.effects)
    write_csv(folder / "filters.csv", list(Effect.model_fields), rows)


def print_effects(effects: Effects, groups: Iterable[str]) -> None:
    """Print for each group Dice and the hidden share by label (row) and filter (column), then its lesions.

    groups  those that the step has teachers for; a note names each that there was no case for
    """
    for group in dict.fromkeys(effect.group for effect in effects.effects):
        of_group = [effect for effect in effects.effects if effect.group == group]
        ways = list(dict.fromkeys(effect.filter for effect in of_group))
        title = f"{group}: DSC of what is kept, and the share that is hidden, by filter"
        table = new_table(title, "label", ">cases", *(f">{way}" for way in ways))
        for label in dict.fromkeys(effect.label for effect in of_group):
            row = [effect for effect in of_group if effect.label == label]
            table.add_row(label, str(row[0].cases), *(f"{_say(e.dsc)} {e.hidden or 0:4.0%}" for e in row))
        table.add_section()
        first = [effect for effect in of_group if effect.label == of_group[0].label]
        table.add_row("cases left out", "", *(str(effect.dropped_of_group) for effect in first))
        lesions = [_lesion_table(of_group)] if any(effect.kept + effect.removed for effect in of_group) else []
        show(table, *lesions)
    measured = {effect.group for effect in effects.effects}
    show(notes=[f"{group}: no case to measure its filters on" for group in groups if group not in measured])
    if effects.trained_on:
        show(notes=["the teachers learned from these cases, or do not say: on new ones all would be worse"])


def _lesion_table(effects: Sequence[Effect]) -> Table:
    title = "lesions that the sources see; precision of those kept, recall of the true ones"
    table = new_table(title, "lesion", "filter", ">kept", ">removed", ">precision", ">recall")
    for effect in effects:
        shares = (_say(effect.precision), _say(effect.recall))
        table.add_row(effect.label, effect.filter, str(effect.kept), str(effect.removed), *shares)
    return table


def _say(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"
