"""The base class of trainers: trains the steps of a plan in a workspace, each to a finished model folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from rich.console import Console
from torch import nn

from ..errors import PlanError, RunError, UsageError, is_out_of_memory
from ..inference.engines.engine import autocast
from ..inference.models.about import is_finished
from ..inference.models.model import save_model
from ..inference.predict import Predictor
from ..lock import locked
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import Plan, Step, TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.runs import Run
from ..planning.split import load_splits
from ..pseudo.sources import runs_asked
from ..pseudo.teachers import Teachers
from ..training.batches import Batch, Sample
from ..training.callbacks import Callback
from ..training.curve import Curve, Log
from ..training.distributed import first_before_others, joined, own_device, processes, rank, wait_for_all
from ..training.loader import Loader, default_workers
from ..training.loop import TrainingSetup, fastest_convolutions, fit
from ..training.losses import Loss
from ..training.objective import keeps_size, segmentation_objective
from ..training.overlays import Overlays
from ..training.progress import Display
from ..training.run_file import RunRecord, other_versions, this_process
from ..training.signals import save_requests_harmless
from ..training.state import TrainState
from ..workspace import Fold, Workspace
from .foundations import Foundation, find_foundation
from .memory import memory_gb, shortage, within_memory
from .record import planned_otherwise, run_facts, trained_again
from .samples import read_samples
from .start import make_state
from .training_setup import make_setup


class Trainer:
    """Trains the steps that its part of the plan lists.

    fold       the fold whose cases are held out; "all" holds out none
    device     "auto", "cpu", "cuda", "cuda:1", ...
    precision  replaces the plan's; None: the plan's
    compiled   whether torch compiles the network
    callbacks  watch each run, in addition to those that always do; see training.callbacks
    workers    loader processes; None: loader.default_workers. With any, a script needs the guard that data.cases shows

    A custom trainer defines `name` and `plan`, and overrides `objective` if its network does not segment.
    Raises UsageError where `plan` has no such trainer (see planner.with_trainer) or splits.json no such fold, and
    PlanError where a fold other than 0 holds out nothing.
    """

    name: ClassVar[str]

    def __init__(
        self,
        plan: Plan,
        workspace: Workspace,
        *,
        fold: Fold = 0,
        device: str = "auto",
        precision: str | None = None,
        compiled: bool = False,
        workers: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._plan = plan
        self._workspace = workspace
        self._fold = fold
        self._held_out()  # a fold that is not there is told at once
        self._device = own_device(device)
        self._precision = precision or plan.precision
        self._compiled = compiled
        self._loaders = default_workers(self._device) if workers is None else workers
        self._part: TrainerPlan = plan.trainer(self.name)
        self._callbacks = tuple(callbacks)
        self._console = Console(stderr=True)
        self._told: set[Path] = set()  # finished runs already reported as trained by a different plan

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """The trainer's part of a new plan; None where the data set has nothing for it to train on."""
        raise NotImplementedError

    def objective(self, step: Step, network: nn.Module, batch: Batch) -> Loss:
        """Equation (1) over what is annotated, summed over the step's groups."""
        return segmentation_objective(network, batch, step.groups, exclusion=step.exclusion, same_size=self._compiled)

    def train(self, step: int | None = None, *, finish: bool = False) -> None:
        """Train one step, or all in order; finished ones are skipped, an interrupted run resumes.

        Warns of finished runs, skipped or built on, that were trained by another plan (of a run that is built on, other
        epochs are no matter), and of skipped ones built on a run that was trained again since.

        finish  stop training `step` and turn its last saved state into a model
        Raises RunError, with the command to type, where an earlier run is missing or there is nothing to finish,
        LockedError where another process trains the step, UsageError where an interrupted run has another
        plan or data set, or no step is named to finish, and PlanError where more processes train than a batch has rows.
        """
        if finish and step is None:
            raise UsageError("--finish", found="no --step", expected="the step to finish, as in --step 1 --finish")
        self._plan.step(self.name, 1 if step is None else step)
        numbers = range(1, len(self._part.steps) + 1) if step is None else [step]
        cards = [self._device] if self._device.type == "cuda" else []
        own_numbers = torch.random.fork_rng(cards)  # a script's own random numbers are not affected
        with save_requests_harmless(), joined(self._device), own_numbers:
            self._check_rows(numbers)
            for number in numbers:
                folder = self._workspace.run(self.name, number, self._fold)
                if not is_finished(folder):  # before its lock makes the folder: one that cannot begin leaves none
                    self._foundations(self._plan.step(self.name, number).builds_on)
                with locked(folder) if rank() == 0 else nullcontext():
                    if is_finished(folder):
                        self._skip(number, folder)
                    else:
                        self._train_step(number, finish=finish)

    def _check_rows(self, numbers: Iterable[int]) -> None:
        """Each process needs a row of every batch; checked before cases, teachers and other steps take hours."""
        for number in numbers:
            rows, count = self._plan.step(self.name, number).batch_size, processes()
            if rows < count and not is_finished(self._workspace.run(self.name, number, self._fold)):
                key = f"trainers.{self.name}.steps.{number - 1}.batch_size"
                raise PlanError(
                    key,
                    found=rows,
                    expected=f"at least one sample for each of {count} processes",
                    remedy=f"--set {key}={count}, with the budget.gpu_memory_gb of all cards together where one is too "
                    f"small, or no more processes than {rows}",
                )

    def _skip(self, number: int, folder: Path) -> None:
        """Say that a step is finished; warn if its plan was different, or if what it was built on was trained again."""
        title, step = self._title(number), self._plan.step(self.name, number)
        self._say(f"{title}: finished before, skipped")
        self._tell_other_plan(Run(self.name, number), folder, length=True)
        models = {run: self._workspace.run(*run, self._fold) for run in step.builds_on}
        for run in trained_again(folder, models):
            self._say(f"warning: {title} was trained from an earlier {run}; remove {folder} to train it again")

    def _tell_other_plan(self, run: Run, folder: Path, *, length: bool) -> None:
        """Warn, once, where a finished run was trained by another plan; length as in planned_otherwise."""
        was, now = planned_otherwise(folder, run, self._plan, length=length)
        if was and folder not in self._told:
            self._told.add(folder)
            found = f"warning: {run.trainer} step {run.step} was trained by a different plan: {was}, now {now}"
            self._say(f"{found}; remove {folder} to train it again, or keep it as it is")

    def _train_step(self, number: int, *, finish: bool) -> None:
        step = self._plan.step(self.name, number)
        foundations = self._foundations(step.builds_on)
        for run, foundation in foundations.items():
            self._tell_other_plan(run, foundation.folder, length=False)  # --epochs is for the steps trained now
        self._tell_shortage(step, number)
        state = self._state(step, foundations)
        try:
            with Loader(self._loaders) as loader:
                with first_before_others():  # the first makes the pseudo labels, the others find them
                    setup = self._setup(step, number, loader=loader, foundations=foundations)
                if setup.checkpoints.load(state, self._say):
                    self._tell_resumed(state, setup, finish=finish)
                wait_for_all()  # until all have read the state, which the first may soon remove
                fastest = fastest_convolutions(keeps_size(state.network, same_size=self._compiled))
                memory = within_memory(setup.title, self._plan, self.name, step, root=self._workspace.root)
                with memory, compiling(), fastest:
                    fit(state, ended(setup, state) if finish else setup)
        finally:
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        if rank() == 0:
            self._save(state, setup, number=number, foundations=foundations)
            setup.checkpoints.remove()
        wait_for_all()

    def _tell_shortage(self, step: Step, number: int) -> None:
        """Warn of a GPU with less memory than the step takes by planning's estimate."""
        there_gb = memory_gb(self._device)
        if there_gb is not None:
            root, precision = self._workspace.root, self._precision
            short = shortage(self._plan, self.name, step, root=root, precision=precision, there_gb=there_gb)
            if short:
                self._say(f"warning: {self._title(number)}: {short}")

    def _tell_resumed(self, state: TrainState, setup: TrainingSetup, *, finish: bool) -> None:
        """Say where a run goes on, or ends, and where it goes on with another version of what it computes with."""
        does = "ends" if finish else "resumes"
        self._say(f"{setup.title}: {does} after epoch {state.epoch}, batch {state.index}")
        if not finish and (other := other_versions(setup.folder)):
            self._say(f"note: until there it was trained with {other}; it may end with other bytes than in one version")

    def _state(self, step: Step, foundations: Mapping[Run, Foundation]) -> TrainState:
        return make_state(
            step,
            foundations,
            plan=self._plan,
            part=self._part,
            device=self._device,
            precision=self._precision,
            compiled=self._compiled,
        )

    def _setup(
        self, step: Step, number: int, *, loader: Loader, foundations: Mapping[Run, Foundation]
    ) -> TrainingSetup:
        teachers = self.teachers(step) if step.teachers else None  # takes seconds, in which cases may be dealt to folds
        train, held_out = read_samples(
            step,
            plan=self._plan,
            configuration=self._part.configuration,
            workspace=self._workspace,
            held_out=self._held_out(),
            teachers=teachers,
        )
        begun = step.starts_from or step.encoder_from
        title, folder = self._title(number), self._workspace.run(self.name, number, self._fold)
        models = {run: foundation.weights_sha256 for run, foundation in foundations.items()}
        self._say(f"{title}: {len(train)} cases to train on, {len(held_out)} held out, {self._device}")
        return make_setup(
            step,
            train,
            held_out,
            plan=self._plan,
            part=self._part,
            loader=loader,
            objective=partial(self._judged, step),
            device=self._device,
            starts_from=models[begun] if begun else None,
            folder=folder,
            title=title,
            callbacks=(*self._watching(title, train, held_out, models), *self._callbacks) if rank() == 0 else (),
        )

    def _judged(self, step: Step, network: nn.Module, batch: Batch) -> Loss:
        """The objective, in the precision of the run."""
        with autocast(self._device, self._precision):
            return self.objective(step, network, batch)

    def _watching(
        self, title: str, train: Sequence[Sample], held_out: Sequence[Sample], models: Mapping[Run, str]
    ) -> tuple[Callback, ...]:
        """The callbacks of every run."""
        facts = run_facts(title, train, held_out, plan=self._plan, workspace=self._workspace, models=models)
        process = this_process(self._device, self._precision, self._workspace.root)
        return Display(self._console), RunRecord(facts, process), Log(), Curve(), Overlays(self._plan.labels)

    def _save(
        self, state: TrainState, setup: TrainingSetup, *, number: int, foundations: Mapping[Run, Foundation]
    ) -> None:
        if state.best is not None:
            state.eval_network.load_state_dict(state.best)
        own = {sample.name for sample in setup.batches.samples}
        save_model(
            setup.folder,
            state.eval_network,
            plan=self._plan,
            trainer=self.name,
            step=number,
            seen=own.union(*(foundation.about.seen or () for foundation in foundations.values())),
            summary=summary_of(state),
        )

    def teachers(self, step: Step) -> Teachers:
        """The models of a step's pseudo labels. Raises RunError, with the command to type, where one is missing."""
        predictors = {
            # torch, not the fastest engine installed: what is learned must not depend on what is installed
            run: Predictor(foundation.folder, engine="torch", device=str(self._device), precision=self._precision)
            for run, foundation in self._foundations(runs_asked(step)).items()
        }
        return Teachers(predictors, step, self._plan, self._workspace)

    def _foundations(self, runs: Iterable[Run]) -> dict[Run, Foundation]:
        """The Foundation of each of `runs`, in the same fold. Raises as find_foundation."""
        words = self._workspace.flags + (f" --fold {self._fold}" if self._fold else "")
        found, held_out = {}, self._held_out()
        for run in runs:
            typed = self._typed if run.trainer == self.name else run.trainer
            found[run] = find_foundation(
                run,
                self._workspace.run(*run, self._fold),
                trainer=self.name,
                command=f"flarenet_train {typed} --step {run.step} {words}",
                held_out=held_out,
                labels=self._plan.labels,
            )
        return found

    def _held_out(self) -> frozenset[str]:
        """The cases that the fold holds out now: new ones may be dealt to it while an earlier step trains."""
        return load_splits(self._workspace.splits).held_out_by_run(self._fold)

    @property
    def _typed(self) -> str:
        """The name of this trainer on the command line; see own.find_trainer."""
        own = type(self)
        registered = own.__module__.rpartition(".")[0] == __package__
        return self.name if registered else f"{own.__module__}:{own.__name__}"

    def _title(self, number: int) -> str:
        return f"{self.name} step {number}" + (f", fold {self._fold}" if self._fold else "")

    def _say(self, line: str) -> None:
        if rank() == 0:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def ended(setup: TrainingSetup, state: TrainState) -> TrainingSetup:
    """`setup`, ending with the last finished epoch of `state`. Raises RunError where no epoch is finished."""
    if not state.epoch:
        raise RunError(
            f"{setup.title} --finish",
            found=f"no state of a finished epoch in {setup.folder}",
            expected="a run that was interrupted after its first epoch",
            remedy="the same command without --finish",
        )
    return replace(setup, step=setup.step.model_copy(update={"epochs": state.epoch}))


def summary_of(state: TrainState) -> dict[str, float]:
    """The summary of a run for about.json: all its epochs and seconds, and losses and Dice of the epoch that was kept.

    "batches" is the number of batches after the last whole epoch, where the run ended within an epoch.
    """
    kept = state.history[(state.best_epoch or state.epoch) - 1]
    return {
        "epochs": state.epoch,
        **({"batches": state.index} if state.index else {}),
        "kept_epoch": kept.epoch,
        "seconds": round(sum(record.timing["seconds"] for record in state.history) + state.seconds, 1),
        **{name: round(value, 4) for name, value in kept.losses.items()},
        **{f"dice {group}": round(value, 4) for group, value in kept.dice.items()},
    }


@contextmanager
def compiling() -> Iterator[None]:
    """Raise UsageError where torch fails to compile a network, as it does at its first batch without a C++ compiler.

    torch has no public names for these errors, so they are recognised by the module of their class.
    """
    try:
        yield
    except RuntimeError as problem:
        if is_out_of_memory(problem) or not type(problem).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        why = getattr(problem, "inner_exception", problem)
        raise UsageError(
            "--compile",
            found=f"torch cannot compile the network: {type(why).__name__}: {str(why).strip().partition(chr(10))[0]}",
            expected="what torch compiles with, such as a C++ compiler and the headers of Python",
            remedy="install them (Debian: g++ and python3-dev), or leave --compile out",
        ) from problem
