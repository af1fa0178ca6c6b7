"""Pseudo labels: what finished models predict for the labels that are not annotated.

First every model predicts every case that lacks some label. Then the step's rules decide which predictions count, and
the rest is hidden. Annotations never change: see data.labels.complete.

    pseudo/NAME/TRAINER-HASH/pass_N/CASE/       what a model predicted, on the scan's own grid
    pseudo/NAME/sources-HASH/CASE.json          how far the sources agree (Looked)
    pseudo/NAME/completed-CONFIGURATION-HASH/   for one set of rules: maps/CASE/, cases/CASE.json (Fate), report.json
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from ..data.cases import map_cases
from ..data.dataset import Case
from ..data.labels import complete
from ..data.store import CaseRecord, Store
from ..errors import CasesFailed
from ..inference.predict import Predictor
from ..planning.plan import Plan, Step
from ..planning.pseudo_rules import UNFILTERED
from ..planning.runs import Run
from ..preparation.prepare import frame_between, prepare_map
from ..schema import digest
from ..workspace import Workspace
from .filters import deviation_from_mean, tally, worst
from .opinion import CaseOpinion, Hosts, ask, resolve_hosts
from .report import Fate, Looked, Report, keep, load_kept, print_report
from .sources import Sources

Result = TypeVar("Result")


@dataclass(frozen=True)
class Verdict:
    """What is decided over all cases together.

    hosts    where lesions are accepted
    dropped  group -> names of the cases whose pseudo labels of it are not used
    """

    hosts: Hosts
    dropped: Mapping[str, frozenset[str]]

    def lost(self, case: str) -> tuple[str, ...]:
        """The groups whose pseudo labels are not used in a case."""
        return tuple(group for group, names in self.dropped.items() if case in names)

    def key(self, case: str, looked: Looked) -> str:
        """Identifies all that the completed maps of a case depend on, but for the rules."""
        hosts = [[lesion, sorted(of)] for lesion, of in sorted(self.hosts.items())]
        return digest([looked.key, self.lost(case), hosts])


class Teachers:
    """The finished models that a step names as teachers, and the maps that they complete.

    predictors  run -> its Predictor, for every run of sources.runs_asked(step)
    """

    def __init__(self, predictors: Mapping[Run, Predictor], step: Step, plan: Plan, workspace: Workspace) -> None:
        self.sources = Sources(predictors, step, workspace)
        self._step, self._labels, self._workspace = step, plan.labels, workspace
        self._console = Console(stderr=True)

    @property
    def key(self) -> str:
        """Identifies the models and the rules."""
        return digest([self.sources.key, self._step.pseudo_rules.model_dump(mode="json")])

    def locked(self) -> AbstractContextManager[None]:
        """Lock the stored predictions of the models; hold it while pseudo labels are made.

        Where another run with one of these teachers holds the lock, this one waits, and stderr says so: most of what
        is needed is there by then.
        """
        tell = partial(self._console.print, highlight=False, markup=False, soft_wrap=True)
        return self.sources.locked(tell)

    def complete(
        self, cases: Sequence[Case], configuration: str, *, held_out: Collection[str] = (), verify: bool = True
    ) -> Store:
        """A store of completed group maps for `cases`, on the prepared grids of `configuration`.

        held_out  names of cases whose annotated lesions do not count for hosts
        verify    whether every byte of maps that were completed before is read and checked
        `annotated` of each record is the pattern of the completed maps: labels annotated or filled in. It is empty for
        an unlabelled case whose pseudo labels are not used. Only what is missing or stale is made.
        Raises CasesFailed, after all other cases are done, where cases cannot be read.
        """
        prepared = Store(self._workspace.store(configuration))
        records = {case.name: prepared.record(case.name) for case in cases}
        known = self._known(cases, records)
        looked = known | self._compared([case for case in cases if case.name not in known], records)
        verdict = self.judge(looked, held_out)
        folder = self._workspace.pseudo(f"completed-{configuration}", self.key)
        store, fates = Store(folder / "maps"), dict[str, Fate]()
        keys = {case.name: verdict.key(case.name, looked[case.name]) for case in cases}
        for case in cases:
            fate = load_kept(Fate, folder / "cases" / f"{case.name}.json", keys[case.name])
            if fate is not None and store.is_current(case.name, fate.key, verify=verify):
                fates[case.name] = fate

        def finish(case: Case) -> Fate:
            if case.name in known:  # the others were predicted just now
                self.sources.predict(case, self._lacking(case.annotated))
            fate = self._finish(case, records[case.name], verdict, keys[case.name], store)
            keep(fate, folder / "cases" / f"{case.name}.json")
            return fate

        stale = [case for case in cases if case.name not in fates]
        fates |= for_cases(stale, "pseudo labels: filter", finish)
        report = self._report(looked, verdict, {name: fates[name] for name in sorted(fates)})
        keep(report, folder / "report.json")
        if stale and self._step.pseudo_rules != UNFILTERED:
            print_report(report, self._labels, self._console)
            self._console.print(f"written: {folder / 'report.json'}", highlight=False, markup=False, soft_wrap=True)
        return store

    def look(self, cases: Sequence[Case], records: Mapping[str, CaseRecord]) -> dict[str, Looked]:
        """Predict every case with the models, and record how far they agree.

        records  case name -> its record as a prepared case
        """
        known = self._known(cases, records)
        return known | self._compared([case for case in cases if case.name not in known], records)

    def _known(self, cases: Sequence[Case], records: Mapping[str, CaseRecord]) -> dict[str, Looked]:
        """What was recorded of cases before, and still holds."""
        found = {case.name: load_kept(Looked, self._kept(case), self._key(records[case.name])) for case in cases}
        return {name: looked for name, looked in found.items() if looked}

    def _compared(self, cases: Sequence[Case], records: Mapping[str, CaseRecord]) -> dict[str, Looked]:
        """Predict cases with the models, and record how far they agree."""

        def ask_about(case: Case) -> Looked:
            found = self._looked(self.ask(case, case.annotated), self._key(records[case.name]))
            keep(found, self._kept(case))
            return found

        return for_cases(cases, "pseudo labels", ask_about)

    def _kept(self, case: Case) -> Path:
        return self._workspace.pseudo("sources", self.sources.key) / f"{case.name}.json"

    def _key(self, record: CaseRecord) -> str:
        # smaller lesions do not count in the scores
        return digest([record.key, self.sources.key, self._step.pseudo_rules.least_mm3])

    def ask(self, case: Case, annotated: frozenset[int]) -> CaseOpinion:
        """What the models predict for a case, on the grid of its scan, as if `annotated` were all its annotations."""
        groups, least_mm3 = self._lacking(annotated), self._step.pseudo_rules.least_mm3
        self.sources.predict(case, groups)
        return ask(case, self.sources.stores(groups), self._labels, annotated=annotated, least_mm3=least_mm3)

    def _lacking(self, annotated: frozenset[int]) -> list[str]:
        """The groups that have a teacher, and a label that is not among `annotated`."""
        return [group for group in self.sources.groups if not annotated.issuperset(self._labels.groups[group])]

    def judge(self, looked: Mapping[str, Looked], held_out: Collection[str]) -> Verdict:
        """Decide the hosts of lesions, from the rules or from cases that are not held out, and which cases to drop.

        Dropped are, for each group, the cases on which the sources agree least.
        """
        values = {name: value for value, name in enumerate(self._labels.names)}
        annotated = [
            {values[lesion]: {values[host]: part for host, part in of.items()} for lesion, of in said.hosts.items()}
            for name, said in looked.items()
            if name not in held_out
        ]
        rules, dropped = self._step.pseudo_rules, {}
        for group in self.sources.groups:
            scores = {name: said.scores[group] for name, said in looked.items() if group in said.scores}
            dropped[group] = worst(deviation_from_mean(scores), rules.drop_share)
        return Verdict(resolve_hosts(rules, self._labels, annotated), dropped)

    def _looked(self, said: CaseOpinion, key: str) -> Looked:
        names = self._labels.names
        scores = {
            group: {names[value]: round(score, 4) for value, score in opinion.likeness.items()}
            for group, opinion in said.opinions.items()
            if opinion.likeness
        }
        hosts = {
            names[lesion]: {names[host]: round(part, 4) for host, part in of.items()}
            for lesion, of in said.annotated_hosts().items()
        }
        return Looked(key=key, scores=scores, hosts=hosts)

    def _finish(self, case: Case, record: CaseRecord, verdict: Verdict, key: str, store: Store) -> Fate:
        """Write the completed maps of a case; returns the Fate of its pseudo labels."""
        stores, lost = self.sources.stores(self._lacking(case.annotated)), verdict.lost(case.name)
        said = ask(case, stores, self._labels, annotated=case.annotated, least_mm3=None)
        pseudo, voxels, hidden = {}, dict[str, int](), dict[str, dict[str, int]]()
        for group, opinion in said.opinions.items():
            names = (f"no {group}", *(self._labels.names[value] for value in self._labels.groups[group]))
            voxels |= {names[index]: count for index, count in tally(opinion.label).items()}
            if group in lost:
                continue
            pseudo[group], taken = said.filtered(group, self._step.pseudo_rules, verdict.hosts)
            for name, counts in taken.items():
                hidden.setdefault(name, {}).update({names[index]: count for index, count in counts.items()})
        maps, pattern = complete(said.by_hand, pseudo, self._labels, case.annotated)
        frame = frame_between(record.original, record.grid)
        store.write(
            case.name,
            annotated=pattern,
            key=key,
            grid=frame.grid,
            original=frame.original,
            image=None,
            maps={group: prepare_map(array, frame) for group, array in maps.items()},
        )
        return Fate(key=key, dropped=lost, voxels=voxels, hidden=hidden)

    def _report(self, looked: Mapping[str, Looked], verdict: Verdict, fates: Mapping[str, Fate]) -> Report:
        names = self._labels.names
        scores = {name: {group: round(looked[name].score(group), 4) for group in looked[name].scores} for name in fates}
        hosts = {names[lesion]: self._labels.names_of(of) for lesion, of in verdict.hosts.items()}
        return Report(
            teachers=self._step.teachers, rules=self._step.pseudo_rules, hosts=hosts, scores=scores, cases=dict(fates)
        )


def for_cases(cases: Sequence[Case], describe: str, work: Callable[[Case], Result]) -> dict[str, Result]:
    """{case name: work(case)}, run by data.cases.map_cases. Raises CasesFailed at the end, naming those that failed."""
    results, failed = map_cases(work, cases, describe=describe)
    if failed:
        raise CasesFailed(
            f"pseudo labels of {len(failed)} of {len(cases)} cases",
            found="; ".join(f"{case.name}: {error}" for case, error in failed),
            expected="scans and labels that can be read; the other cases are done",
        )
    return {case.name: result for case, result in zip(cases, results)}
