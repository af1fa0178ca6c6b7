"""The samples of a step, from which the loop draws batches.

Three sets of labels belong to a case, each a part of the next:

annotated   those that somebody looked for (`annotated` of a Case)
labelled    those that its maps hold: annotated, or filled in by teachers (`annotated` of a CaseRecord)
supervised  those that the loss asks for: labelled, or taught as absent from every case (`annotated` of a Sample)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from rich.console import Console
from rich.progress import track

from ..data.dataset import Case
from ..data.labels import LabelSet, annotated_flags
from ..data.packed import Packed
from ..data.settled import load_settled
from ..data.store import CaseRecord, Store, StoredCase
from ..errors import DatasetError, RunError, some_of
from ..planning.measuring.cache import Cache
from ..planning.plan import Plan, Step
from ..planning.planned import plan_again
from ..planning.split import unmatched
from ..preparation.dataset import is_made_from, prepared_by
from ..pseudo.teachers import Teachers
from ..training.batches import Sample
from ..training.distributed import rank
from ..workspace import Workspace


def read_samples(
    step: Step,
    *,
    plan: Plan,
    configuration: str,
    workspace: Workspace,
    held_out: frozenset[str],
    teachers: Teachers | None,
) -> tuple[list[Sample], list[Sample]]:
    """The samples of a step, (training, held out), opened in the store; `teachers` fill in what is not annotated.

    held_out  names of cases, of this step or not
    Raises RunError where no case is left to train on, or where one is damaged, or not prepared with the numbers of
    `plan` and from the files that planning measured. Warns of names in `held_out` that no case has; raises PlanError
    where no case has any of them.
    """
    dataset = load_settled(workspace.settled)
    lacking = unmatched(held_out, dataset.cases, workspace.splits)
    if lacking and rank() == 0:
        said = f"warning: held out by {workspace.splits}, but no cases of the data set: {some_of(lacking)}"
        Console(stderr=True).print(said, highlight=False, markup=False, soft_wrap=True)
    store = Store(workspace.store(configuration))
    chosen = list(step.subset.of(dataset.cases))
    names = [case.name for case in chosen]
    _check_some_left(step, names, held_out)  # before teachers are asked, which may take hours
    records = _check_prepared(chosen, workspace, plan, configuration)
    if rank() == 0:  # the others read the same files
        _check_whole(chosen, store, workspace, plan)
    answers = store
    if teachers:
        with teachers.locked() if rank() == 0 else nullcontext():  # the others find everything made
            answers = teachers.complete(chosen, configuration, held_out=held_out, verify=rank() == 0)
    opened = {name: answers.read(name) for name in names}
    if teachers:
        opened = {name: stored for name, stored in opened.items() if stored.record.annotated}
        _check_some_left(step, list(opened), held_out, without_label=len(names) - len(opened))
    prepared = opened if answers is store else {name: store.read(name) for name in opened}
    labelled = {value for name, stored in opened.items() if name not in held_out for value in stored.record.annotated}
    taught = [case for case in dataset.cases if case.name not in held_out]
    absent = never_there(step, plan.labels, taught, labelled=labelled)
    samples = [_sample(prepared[name].image, stored, step, plan.labels, absent) for name, stored in opened.items()]
    _check_same(records, store)
    return (
        [sample for sample in samples if sample.name not in held_out],
        [sample for sample in samples if sample.name in held_out],
    )


def _check_some_left(step: Step, names: Sequence[str], held_out: frozenset[str], *, without_label: int = 0) -> None:
    """Raise RunError where all cases of a step, `names`, are held out.

    without_label  how many more cases it had, which nobody annotated and whose pseudo labels are all dropped
    """
    if not all(name in held_out for name in names):
        return
    found, remedy = f"{len(names)} cases, all of them held out", "another subset in the plan"
    if without_label:
        found = f"{without_label} cases without annotations, whose pseudo labels are dropped; {len(names)} held out"
        remedy += ", or a lower pseudo.drop_share"
    where = f"the cases of patterns {list(step.subset.patterns)}"
    raise RunError(where, found=found, expected="at least one to train on", remedy=remedy)


def _check_prepared(
    cases: Sequence[Case], workspace: Workspace, plan: Plan, configuration: str
) -> dict[str, CaseRecord]:
    """The records of the stored cases. Raises RunError where one is missing or not as the plan says.

    That is so while planning prepares cases, where it was killed, and after a plan is edited by hand.
    """
    store, measured = Store(workspace.store(configuration)), Cache(workspace.measured, writable=False)
    numbers, there = plan.configurations[configuration], set(store.names())
    wanted = prepared_by(numbers, plan.labels)
    records = {case.name: record for case in cases if (record := _record(store, case.name))}

    def fault_of(case: Case) -> str | None:
        record = records.get(case.name)
        if record is None:
            return "of a damaged record" if case.name in there else "not prepared"
        if record.numbers != wanted:
            return "prepared with other numbers than the plan's"
        if not is_made_from(record, case, measured, configuration=numbers, labels=plan.labels):
            return "prepared before their files, or what was looked for in them, changed"
        return None

    faults = {case.name: fault for case in cases if (fault := fault_of(case))}
    if faults:
        found = " and ".join(f"{count} {fault}" for fault, count in Counter(faults.values()).items())
        raise RunError(
            f"{store.folder}: {len(cases)} cases",
            found=f"{found}: {some_of(list(faults))}",
            expected="every case prepared with the spacing, window and groups of the plan, from what planning measured",
            remedy=f"{plan_again(plan, workspace.root)}, with what was changed in the plan by --set",
        )
    return records


def _record(store: Store, name: str) -> CaseRecord | None:
    """None where there is none, or a damaged one, or one of another version: planning again prepares such a case."""
    try:
        return store.record(name)
    except DatasetError:
        return None


def _check_same(records: Mapping[str, CaseRecord], store: Store) -> None:
    """Raise RunError where a case was prepared again after `records` were read: pseudo labels may take hours."""
    other = [name for name, record in records.items() if store.record(name) != record]
    if other:
        raise RunError(
            f"{store.folder}: {len(records)} cases",
            found=f"{len(other)} prepared again in the meantime: {some_of(other)}",
            expected="the cases that this run began with",
            remedy="start the command again; it says what else to do",
        )


def _check_whole(cases: Sequence[Case], store: Store, workspace: Workspace, plan: Plan) -> None:
    """Raise RunError for damaged files. Every byte is read: with a flipped bit, training would learn something else, or
    fail hours from now."""

    def damage(case: Case) -> DatasetError | None:
        try:
            store.verify(case.name)
        except DatasetError as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:  # threads suffice, as hashing releases the interpreter
        told = track(pool.map(damage, cases), "prepared cases: check", len(cases), console=Console(stderr=True))
        # `told` first, so that zip runs it to its end, and the bar with it
        damaged = [(case.name, error) for error, case in zip(told, cases) if error]
    if damaged:
        first, again = damaged[0][1], plan_again(plan, workspace.root, "--rehash")
        raise RunError(
            f"{store.folder}: {len(cases)} cases",
            found=f"{len(damaged)} damaged: {some_of([name for name, _ in damaged])} ({first.thing}: {first.found})",
            expected="every file as it was written",
            remedy=f"{again}, with what was changed in the plan by --set: it prepares them again",
        )


def never_there(step: Step, labels: LabelSet, cases: Iterable[Case], *, labelled: Collection[int]) -> frozenset[int]:
    """The labels to be taught as absent from every case.

    In a step that starts from random weights these are all but `labelled`, the labels labelled in some case that it
    trains on; in one that starts from another run, those annotated in none of `cases`, all of the data set that are not
    held out.
    """
    # always merged with background, such a label could be predicted anywhere at no cost, and would be somewhere
    if step.starts_from is None:
        return frozenset(labels.values).difference(labelled)
    return frozenset(labels.values).difference(*(case.annotated for case in cases))


def _sample(image: Packed | None, stored: StoredCase, step: Step, labels: LabelSet, absent: frozenset[int]) -> Sample:
    """The sample of a case.

    image   of the prepared case
    stored  where its maps are: the prepared case itself, or what teachers completed of it
    """
    name, labelled = stored.record.name, frozenset(stored.record.annotated)
    if image is None:
        raise RunError(f"prepared case {name}", found="no image", expected="one", remedy="flarenet_plan again")
    supervised = {}
    for group in step.groups:  # maps of others would be read, transformed and sent for nothing
        values = labels.groups[group]
        of_group = labelled.intersection(values)
        # every case teaches a group without any label as empty; other groups are taught by cases that have some label
        teaches = of_group or absent.issuperset(values)
        supervised[group] = annotated_flags(labels, group, of_group | absent if teaches else ())
    places = {group: stored.places[group] for group in step.groups if group in stored.places}
    of_groups = {value for group in step.groups for value in labels.groups[group]} & labelled
    return Sample(name, image, stored.maps, supervised, places, stored.record.key, tuple(sorted(of_groups)))
