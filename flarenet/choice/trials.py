"""From a list of variants to their scores: prepare, train, predict and score, each piece once.

ROOT/ablations/NAME/runs/TRAINER-step_N-KEY/      model folders; KEY identifies all that determines them
ROOT/ablations/NAME/prepared/CONFIGURATION-KEY/   cases, where a variant prepares them differently from the plan
ROOT/ablations/NAME/LIST/VARIANT/seed_S-KEY/      predictions and their scores; KEY identifies what these depend on
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..data.cases import HERE, Pool, map_cases
from ..data.dataset import Case, Dataset
from ..data.settled import load_settled
from ..errors import DatasetError, FlarenetError, some_of, without_folders
from ..evaluation.tables import Metrics
from ..inference.models.about import WEIGHTS, is_finished, read_about
from ..lock import locked
from ..planning.facts import prediction_facts, preparation_facts
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import Plan
from ..planning.planned import load_fingerprint, load_planned, plan_again
from ..planning.split import load_splits, unmatched
from ..preparation.dataset import prepare_dataset
from ..schema import digest
from ..workspace import Fold, Workspace
from .ablation_table import AblationResults, results, write_results
from .jobs import PieceWorkspace, Scoring, Training, score_trial, train_run
from .planned_runs import PlannedRun, data_key, name_of, planned_runs, waves
from .scores import scans_as_read
from .variants import AblationList, Answer, Variant, answers_of, list_changes

Item = TypeVar("Item")
Result = TypeVar("Result")
Say = Callable[[str], None]

Unprepared = Mapping[Path, Mapping[str, FlarenetError]]
"""Folder of a store -> case that could not be prepared for it -> why."""


@dataclass(frozen=True)
class Trial:
    """A variant with one seed.

    answers  the models that are scored, together
    runs     key -> run, for all that has to be trained for them
    scored   the runs whose models are scored, one for each of `answers`
    """

    variant: str
    seed: int
    answers: tuple[Answer, ...]
    runs: Mapping[str, PlannedRun]
    scored: tuple[PlannedRun, ...]

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"


@dataclass(frozen=True)
class Ablation:
    """How and where trials are made; open_ablation gives that of a planned data set.

    base         the plan of the data set, whose prepared cases serve where they fit
    fingerprint  what planning measured; the plans of the variants are made from it
    held_out     names of the cases that every run holds out
    fold         the fold that holds them out; "all" holds out none
    pool         where cases are prepared and scored; with a scheduler also where runs are trained and cases predicted
    say          called with messages about the progress
    """

    workspace: Workspace
    base: Plan
    fingerprint: Fingerprint
    dataset: Dataset
    held_out: Collection[str]
    fold: Fold
    device: str
    pool: Pool
    say: Say

    def trials(
        self, chosen: AblationList, *, seeds: Iterable[int], changes: Sequence[str] = (), epochs: int | None = None
    ) -> list[Trial]:
        """Every variant of a list with every seed, each once.

        changes  changes of every variant's plan, made after those of the list and of the variant
        epochs   epochs of every step, in place of the plan's
        Raises as answers_of.
        """
        return [
            self._trial(variant, seed, list_changes(chosen, variant, changes), epochs)
            for variant in chosen.variants
            for seed in dict.fromkeys(seeds)
        ]

    def run(self, trials: Sequence[Trial], cases: Sequence[Case], out: Path, *, name: str) -> AblationResults:
        """Prepare, train and score what is still missing, then write the tables of the list `name` to `out`."""
        unprepared = self.prepare(trials)
        for store, reasons in unprepared.items():
            for case, error in reasons.items():
                self.say(f"{store.name}: case {case} could not be prepared: {error}")
        scores = self.score(trials, cases, out, failed=self.train(trials, unprepared))
        by_variant: dict[str, dict[int, Metrics | str]] = {}
        for trial in trials:
            by_variant.setdefault(trial.variant, {})[trial.seed] = scores[trial.name]
        found = results(
            by_variant,
            self.dataset.labels,
            dataset=self.dataset.name,
            name=name,
            fold=str(self.fold),
            cases=[case.name for case in cases],
        )
        write_results(found, out)
        return found

    def prepare(self, trials: Iterable[Trial]) -> Unprepared:
        """Prepare the training cases as the runs need them; returns for every store the cases that could not be.

        Cases that the data set's own plan has prepared in the same way are not prepared again.
        Raises LockedError where another process plans or prepares the data set.
        """
        failed: dict[Path, dict[str, FlarenetError]] = {}
        with locked(self.workspace.prepared):  # else files that another process is writing would be taken for leftovers
            for run in _each_once(trials).values():
                workspace, name = self._workspace(run), run.plan.trainer(run.run.trainer).configuration
                store = workspace.store(name)
                if store not in failed:
                    plan = run.plan.model_copy(update={"configurations": {name: run.plan.configurations[name]}})
                    own = store != self.workspace.store(name)  # verified here, as flarenet_plan --rehash does not
                    failed[store] = dict(prepare_dataset(self.dataset, plan, workspace, pool=self.pool, verify=own))
        return failed

    def train(self, trials: Iterable[Trial], unprepared: Unprepared) -> dict[str, str]:
        """Train every run that is not finished; returns key -> reason for runs that failed or need one that failed.

        A run fails if a case of its step is `unprepared`, whether to learn from or held out: with fewer cases it would
        be another run with the same key.
        """
        runs = _each_once(trials)
        done = {key for key, run in runs.items() if is_finished(self.folder(run))}
        failed: dict[str, str] = {}
        for turn in waves(runs.values(), done):
            for run in turn:
                broken = [runs[key].name for key in run.needs.values() if key in failed]
                if broken:
                    failed[run.key] = f"{run.name} needs {broken[0]}, which failed"
                elif lost := self._lost(run, unprepared):
                    failed[run.key] = f"{run.name} needs cases that could not be prepared: {'; '.join(lost)}"
            able = [run for run in turn if run.key not in failed]
            work = [Training(run, self._workspace(run), self.fold, self.device) for run in able]
            for training, error in self._map(train_run, work, "train")[1]:
                failed[training.run.key] = self._reason(error)
                self.say(f"{training.name}: failed\n  {error}")
        return failed

    def score(
        self, trials: Iterable[Trial], cases: Sequence[Case], out: Path, *, failed: Mapping[str, str]
    ) -> dict[str, Metrics | str]:
        """Trial name -> its scores on `cases`, or why it has none. Existing predictions are not made again.

        failed  key of a run -> reason, as `train` gives it
        """
        scans = scans_as_read(cases)
        images = {name: scan.sha256 for name, scan in scans.items()}
        able, found = list[Scoring](), dict[str, Metrics | str]()
        for trial in trials:
            reasons = [failed[run.key] for run in trial.scored if run.key in failed]
            if reasons:
                found[trial.name] = "; ".join(reasons)
                continue
            models = tuple(self.folder(run) for run in trial.scored)
            folder = out / trial.variant / f"seed_{trial.seed}-{_score_key(trial.answers, models, images)[:12]}"
            labels, pool = self.dataset.labels, HERE if self.pool.scheduler else self.pool
            able.append(
                Scoring(trial.name, trial.answers, models, folder, tuple(cases), scans, labels, self.device, pool)
            )
        done, failures = self._map(score_trial, able, "predict and score")
        return found | dict(done) | {scoring.name: self._reason(error, out) for scoring, error in failures}

    def folder(self, run: PlannedRun) -> Path:
        """Where the model of a run lies."""
        return self.workspace.ablations / "runs" / run.name

    def _trial(self, variant: Variant, seed: int, changes: Sequence[str], epochs: int | None) -> Trial:
        measured = self.fingerprint
        answers = answers_of(variant, base=self.base, fingerprint=measured, seed=seed, changes=changes, epochs=epochs)
        data = data_key(measured)
        planned = [planned_runs(answer, self.held_out, data=data) for answer in answers]
        runs = {run.key: run for each in planned for run in each.values()}
        scored = tuple(each[answer.run] for answer, each in zip(answers, planned))
        return Trial(variant.name, seed, answers, runs, scored)

    def _workspace(self, run: PlannedRun) -> PieceWorkspace:
        runs = self.workspace.ablations / "runs"
        folders = {needed: runs / name_of(needed, key) for needed, key in run.needs.items()}
        stores = {name: self._store(run.plan, name) for name in run.plan.configurations}
        return PieceWorkspace(
            self.workspace.root, self.workspace.dataset, stores, {**folders, run.run: self.folder(run)}
        )

    def _lost(self, run: PlannedRun, unprepared: Unprepared) -> list[str]:
        """The cases of a run's step that are not prepared, each with the reason."""
        reasons = unprepared[self._store(run.plan, run.plan.trainer(run.run.trainer).configuration)]
        chosen = run.plan.step(*run.run).subset.of(self.dataset.cases)
        return [f"{case.name}: {self._reason(reasons[case.name])}" for case in chosen if case.name in reasons]

    def _reason(self, error: FlarenetError, *folders: Path) -> str:
        """What ablation.json, which is passed on, says of an error: files without the folders that lead to them.

        folders  further ones than the root and those of the training cases
        """
        files = (path for case in self.dataset.cases for path in (case.image, case.label) if path is not None)
        known = {self.workspace.root, *(path.parent for path in files), *(folder.absolute() for folder in folders)}
        return without_folders(str(error), sorted(known, reverse=True))  # those within others first

    def _store(self, plan: Plan, name: str) -> Path:
        numbers = preparation_facts(plan.configurations[name], plan.labels)
        known = self.base.configurations.get(name)
        if known is not None and numbers == preparation_facts(known, self.base.labels):
            return self.workspace.store(name)
        return self.workspace.ablations / "prepared" / f"{name}-{digest(numbers)[:12]}"

    def _map(
        self, function: Callable[[Item], Result], items: Sequence[Item], describe: str
    ) -> tuple[list[Result], list[tuple[Item, FlarenetError]]]:
        """As map_cases, on the cluster if there is one, else here, one item after the other."""
        if self.pool.scheduler:
            return map_cases(function, items, pool=replace(self.pool, timeout_s=None), describe=describe)
        done, failures = list[Result](), list[tuple[Item, FlarenetError]]()
        for item in items:
            self.say(f"{describe}: {getattr(item, 'name', item)}")
            try:
                done.append(function(item))
            except FlarenetError as error:
                failures.append((item, error))
        return done, failures


def open_ablation(workspace: Workspace, *, fold: Fold, device: str, pool: Pool, say: Say) -> Ablation:
    """The Ablation of a planned set.

    Raises DatasetError where not every case that was measured is prepared: the key of a run covers all that were
    measured, so a run on fewer would be taken for it; PlanError where no case has any name of the fold.
    """
    base, found = load_planned(workspace), load_fingerprint(workspace)
    held_out, dataset = load_splits(workspace.splits).held_out(fold), load_settled(workspace.settled)
    if lacking := unmatched(held_out, dataset.cases, workspace.splits):
        say(f"warning: held out by {workspace.splits}, but no cases of the data set: {some_of(lacking)}")
    if lost := sorted({case.name for case in found.cases} - {case.name for case in dataset.cases}):
        raise DatasetError(
            workspace.settled,
            found=f"{len(lost)} cases fewer than were measured: {some_of(lost)}",
            expected="every case, prepared",
            remedy=f"{plan_again(base, workspace.root)}, with the changes of this plan by --set",
        )
    return Ablation(workspace, base, found, dataset, held_out, fold, device, pool, say)


def _each_once(trials: Iterable[Trial]) -> dict[str, PlannedRun]:
    return {key: run for trial in trials for key, run in trial.runs.items()}


def _score_key(answers: Sequence[Answer], models: Sequence[Path], images: Mapping[str, str]) -> str:
    """Identifies all that predictions depend on: weights, how they are used, and the bytes of the scans."""
    used: list[object] = []
    for answer, folder in zip(answers, models):
        plan = answer.plan
        facts = prediction_facts(plan.configuration_of(answer.run.trainer), plan.fusion, whole=True)
        used.append([read_about(folder).sha256[WEIGHTS], *facts, plan.labels.model_dump(mode="json")])
    return digest([used, dict(sorted(images.items()))])
