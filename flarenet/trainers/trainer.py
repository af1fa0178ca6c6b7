"""What all trainers share: from a plan and a workspace to finished model folders, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from rich.console import Console
from torch import nn

from ..data.dataset import Case, choose
from ..data.labels import asked
from ..data.settled import load_settled
from ..data.store import Store
from ..errors import RunError
from ..inference.engines import autocast, pick_device
from ..inference.model import is_finished, load_model, load_weights, save_model
from ..inference.predict import Predictor
from ..networks import build
from ..planning.fingerprint import Fingerprint
from ..planning.plan import Configuration, Plan, Step, TrainerPlan
from ..planning.rules import Outline
from ..planning.split import split_cases
from ..pseudo.teachers import Teachers
from ..schema import to_json
from ..training.batches import Batch, Batches, Sample, case_weights
from ..training.loop import Course, Validation, fit
from ..training.losses import Loss, marginal_loss
from ..training.state import TrainState, load_state, remove_state
from ..training.validate import HeldOut
from ..workspace import Workspace


class Trainer:
    """Trains the steps that its part of the plan lists.

    A trainer of one's own gives `name` and `plan`, and overrides `objective` where it does not segment.
    device     "auto", "cpu", "cuda", "cuda:1", ...
    precision  overrides the plan's where given
    """

    name: ClassVar[str]

    def __init__(
        self, plan: Plan, workspace: Workspace, *, device: str = "auto", precision: str | None = None
    ) -> None:
        self._plan = plan
        self._workspace = workspace
        self._device = pick_device(device)
        self._precision = precision or plan.precision
        self._part: TrainerPlan = plan.trainer(self.name)
        self._console = Console(stderr=True)

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """Its part of a new plan; None where the data set has nothing for it."""
        raise NotImplementedError

    def objective(self, step: Step, network: nn.Module, batch: Batch) -> Loss:
        """Equation (1) over what is annotated, summed over the step's groups."""
        logits = network(batch.image, step.groups)
        losses = [marginal_loss(logits[group], batch.labels[group], batch.asked[group]) for group in step.groups]
        dice, cross_entropy = ([getattr(loss, term) for loss in losses] for term in ("dice", "cross_entropy"))
        return Loss(torch.stack(dice).sum(), torch.stack(cross_entropy).sum())

    def train(self, step: int | None = None) -> None:
        """Train one step, or all in order; finished ones are skipped. Goes on from the last epoch of a broken run.

        Raises RunError, with the command to type, where an earlier run is missing.
        """
        self._plan.step(self.name, step or 1)
        for number in [step] if step else range(1, len(self._part.steps) + 1):
            if is_finished(self._workspace.run(self.name, number)):
                self._console.print(f"{self.name} step {number}: finished before, skipped", highlight=False)
            else:
                self._train_step(number)

    def _train_step(self, number: int) -> None:
        step = self._plan.step(self.name, number)
        torch.manual_seed(self._plan.seed)
        patch = self._configuration.patch
        network = build(self._part.network, self._plan.labels.outputs, patch)
        if step.starts_from is not None:
            network.load_state_dict(load_weights(self._finished(step.starts_from)))
        freeze(network, step.trained)
        order = torch.channels_last if len(patch) == 2 else torch.channels_last_3d
        network.to(self._device).to(memory_format=order)  # type: ignore[call-overload]  # torch's stubs lack it
        train, held_out = self._samples(step)
        title = f"{self.name} step {number}"
        self._console.print(
            f"{title}: {len(train)} cases to train on, {len(held_out)} held out, {self._device}", highlight=False
        )
        course = self._course(step, title, train, held_out, self._workspace.run(self.name, number))
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=step.learning_rate, weight_decay=self._part.weight_decay)
        state = TrainState(network, optimizer)
        if load_state(state, course.folder, course.run_hash):
            self._console.print(f"{title}: goes on after epoch {state.epoch}", highlight=False)
        self._fit_and_save(state, course, number)

    def _fit_and_save(self, state: TrainState, course: Course, number: int) -> None:
        try:
            fit(state, course)
        finally:
            self._device_free()
        if state.best is not None:
            state.network.load_state_dict(state.best)
        last = state.history[-1]
        summary = {
            "epochs": state.epoch,
            "kept_epoch": state.best_epoch or state.epoch,
            "seconds": round(sum(record.scores["seconds"] for record in state.history), 1),
            **{name: round(value, 4) for name, value in last.scores.items() if name != "seconds"},
        }
        save_model(
            course.folder, state.network, plan=self._plan, trainer=self.name, step=number, summary=summary
        )
        remove_state(course.folder)

    def _device_free(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def _configuration(self) -> Configuration:
        return self._plan.configurations[self._part.configuration]

    def _course(self, step: Step, title: str, train: list[Sample], held_out: list[Sample], folder: Path) -> Course:
        draw = partial(
            Batches,
            patch=self._configuration.patch,
            batch_size=step.batch_size,
            foreground=self._part.augmentation.foreground,
            neighbours=self._configuration.neighbours,
        )

        def objective(network: nn.Module, batch: Batch) -> Loss:
            return self.objective(step, network, batch)

        def context():
            return autocast(self._device, self._precision)

        validate: Validation | None = None
        if held_out:
            fixed = draw(held_out, seed=self._plan.seed + 1, augmentation=None)
            count = max(1, step.batches_per_epoch // 5)  # the paper's share of held-out slices, 20 %
            validate = HeldOut(
                fixed, count=count, groups=step.groups, objective=objective, device=self._device, autocast=context
            )
        names = [sample.name for sample in train] + [sample.name for sample in held_out]
        identity = [self._part.model_dump(mode="json"), self._configuration.model_dump(mode="json"), title, names]
        return Course(
            step=step,
            batches=draw(
                train,
                seed=self._plan.seed,
                augmentation=self._part.augmentation,
                weights=case_weights(train, step.groups, step.balance),
            ),
            objective=objective,
            validate=validate,
            device=self._device,
            autocast=context,
            folder=folder,
            run_hash=hashlib.sha256(to_json(identity).encode()).hexdigest(),
            title=title,
        )

    def _samples(self, step: Step) -> tuple[list[Sample], list[Sample]]:
        """(training, held out), read from the store; what nobody looked for is filled in by the step's teachers."""
        dataset = load_settled(self._workspace.settled)
        store = Store(self._workspace.store(self._part.configuration))
        prepared = set(store.names())
        chosen = [case for case in choose(dataset.cases, step.subset) if case.name in prepared]
        if not chosen:
            raise RunError(
                f"{self.name}: the cases of patterns {list(step.subset.patterns)}",
                found="none prepared",
                expected="at least one",
                remedy=f"flarenet_plan -d {self._plan.dataset}, or another subset in the plan",
            )
        answers = self._teachers(step).complete(chosen, self._part.configuration) if step.teachers else store
        train, held_out = split_cases(dataset.cases, fraction=self._plan.validation_fraction, seed=self._plan.seed)
        absent = self._absent(step, dataset.cases, [answers.read(case.name).record.annotated for case in chosen])
        samples = {case.name: self._sample(case, store, answers, absent) for case in chosen}
        return (
            [samples[case.name] for case in train if case.name in samples],
            [samples[case.name] for case in held_out if case.name in samples],
        )

    def _sample(self, case: Case, store: Store, answers: Store, absent: frozenset[int]) -> Sample:
        image, stored = store.read(case.name).image, answers.read(case.name)
        if image is None:
            raise RunError(f"prepared case {case.name}", found="no image", expected="one", remedy="flarenet_plan again")
        labels = self._plan.labels
        pattern = set(stored.record.annotated)
        maps = {
            group: stored.maps[group] if group in stored.maps else np.zeros(image.shape, dtype=np.uint8)
            for group in labels.groups
        }
        flags = {}
        for group, values in labels.groups.items():
            looked_for = pattern & set(values)
            flags[group] = asked(labels, group, looked_for | absent if looked_for else ())
        return Sample(case.name, image, maps, flags, stored.places)

    def _absent(
        self, step: Step, cases: Sequence[Case], patterns: Sequence[Sequence[int]]
    ) -> frozenset[int]:
        """Labels to be taught as "never there", because nothing ever tells where they are.

        Merged with background they would cost nothing wherever the network put them, and it would put them somewhere.
        In a step that starts from another run these are the labels nobody looked for in the whole data set; in one that
        starts from random weights, also those that none of its cases answers.
        """
        told = {value for case in cases for value in case.annotated}
        if step.starts_from is None:
            told = {value for pattern in patterns for value in pattern}
        return frozenset(self._plan.labels.values) - told

    def _teachers(self, step: Step) -> Teachers:
        predictors = {
            group: Predictor(load_model(self._finished(run), self._device), device=str(self._device))
            for group, run in step.teachers.items()
        }
        return Teachers(predictors, self._plan, self._workspace)

    def _finished(self, run: str) -> Path:
        """The model folder of "TRAINER/STEP". Raises RunError with the command that makes it."""
        trainer, _, number = run.partition("/")
        folder = self._workspace.run(trainer, int(number))
        if not is_finished(folder):
            raise RunError(
                f"{self.name} needs {trainer} step {number}",
                found=f"no finished run in {folder}",
                expected="a finished one",
                remedy=f"flarenet_train {trainer} --step {number} -d {self._plan.dataset}",
            )
        return folder


def freeze(network: nn.Module, trained: Sequence[str]) -> None:
    """Let only the submodules `trained` learn; empty means all. Raises RunError listing the real ones."""
    if not trained:
        return
    modules = dict(network.named_modules())
    for name in trained:
        if name not in modules or not name:
            real = [module for module in modules if module and module.count(".") <= 1]
            raise RunError(f"submodule {name!r}", found="no such part of the network", expected=", ".join(real))
    network.requires_grad_(False)
    for name in trained:
        modules[name].requires_grad_(True)
