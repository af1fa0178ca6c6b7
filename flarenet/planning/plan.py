"""The plan: what every later stage reads, and what a user edits to change anything.

A plan is data. To use another number than the rules give, change it in the plan, by hand or by `--set`. `plan_file`
reads, changes and checks plans.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field

from ..data.dataset import Case
from ..data.labels import LabelSet
from ..errors import UsageError, unknown
from ..schema import Frozen
from .budget import Budget, Recipe, Request, Without
from .fusion import Fusion
from .pseudo_rules import UNFILTERED, PseudoRules
from .runs import Run, RunName

PLAN_VERSION: Final = 1

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class NetworkSpec(Frozen):
    """A network by name and numbers; `networks.build` builds it.

    kind              a name of networks.NETWORKS
    dimensions        2: it sees slices; 3: it sees blocks. The patch of its configuration has as many numbers
    input_channels    1, and 2 more for each of a configuration's `neighbours`
    features          channels at each resolution, finest first, then of the last decoder stage; for a transformer, the
                      numbers that cost.network_numbers names
    blocks            residual blocks at each resolution, for the residual kinds
    groups            the groups it predicts, in drawing order; each gets a head of 1 + n channels
    deep_supervision  how many coarser decoder stages are trained too, each with half the weight of the next finer one
    """

    kind: str
    dimensions: Literal[2, 3]
    input_channels: Count = 1
    features: tuple[Count, ...]
    blocks: tuple[Count, ...] = ()
    groups: tuple[str, ...]
    deep_supervision: Annotated[int, Field(ge=0)] = 0


class Configuration(Frozen):
    """How an image is prepared for a network; `facts` sorts the fields by what they decide.

    spacing_mm            (z, y, x) that training cases are resampled to; None for z: the scan's own
    inference_spacing_mm  the same for prediction. In 2D the first number is only a lower bound: slices farther apart
                          than that stay as they are
    patch                 (y, x) or (z, y, x) in voxels
    neighbours            how many slices on either side of the one it predicts a slice-wise network sees as well
    normalisation         "window": clipped to clip_hu, then scaled to [0, 1]; "percentile": clipped to the 0.5 and 99.5
                          percentile of the image's own voxels above its lowest value, for intensities without a unit,
                          as in MR
    clip_hu               the window in HU; None where the image's own percentiles are used
    interpolation         of images; label maps take the nearest voxel
    overlap               share of a window that its neighbour covers in prediction
    why                   the reason for each number
    """

    spacing_mm: tuple[float | None, float, float]
    inference_spacing_mm: tuple[float | None, float, float]
    patch: tuple[Count, ...]
    neighbours: Annotated[int, Field(ge=0, le=8)] = 0
    normalisation: Literal["window", "percentile"] = "window"
    clip_hu: tuple[float, float] | None
    interpolation: Literal["linear", "cubic"] = "linear"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    why: dict[str, str] = Field(default_factory=dict)

    @property
    def is_ct(self) -> bool:
        """Whether images are taken to be in HU."""
        return self.normalisation == "window"


class Subset(Frozen):
    """The cases that a step trains on: those whose annotated labels are exactly one of `patterns`.

    It is never a list of cases. The pattern `[]` stands for unlabelled cases.
    """

    patterns: tuple[tuple[int, ...], ...]

    def holds(self, annotated: Iterable[int]) -> bool:
        return tuple(sorted(annotated)) in {tuple(sorted(pattern)) for pattern in self.patterns}

    def of(self, cases: Iterable[Case]) -> tuple[Case, ...]:
        """Those of `cases` that it holds, in their order; none is an empty tuple."""
        return tuple(case for case in cases if self.holds(case.annotated))


class Step(Frozen):
    """One training run.

    subset                which patterns it trains on
    starts_from           the run whose weights it begins with; None: random weights
    encoder_from          in place of starts_from, the run from which it takes the weights of `encoder`; the rest is
                          random
    trained               submodules that learn, everything else is frozen; empty: all learn
    groups                the groups whose loss counts
    teachers              group -> run whose predictions fill in what nobody looked for
    pseudo                how often the teachers predict, and which of their predictions count; None: once, and all
    batch_size            samples (slices or blocks) of one update of the weights, over all processes together
    batches_per_epoch     batches of an epoch
    balance               a case is drawn in proportion to this power of the number of labels of `groups`, at least 1,
                          that are annotated or pseudo-labelled in it; 0 draws all cases equally often
    rare                  labels that less than this share of the cases hold, and the cases that hold them, are drawn
                          sqrt(rare / share that holds it) times as often; 0: none is drawn more often
    exclusion             weight of the exclusion loss, see training.losses; 0 leaves it out
    epochs                number of epochs
    learning_rate         the highest of AdamW; that of an update follows from the warm-up and the schedule
    warmup_epochs         epochs over which the learning rate rises linearly from 0
    schedule              how the learning rate continues after the warm-up
    selection             which epoch's weights are kept
    """

    subset: Subset
    starts_from: RunName | None = None
    encoder_from: RunName | None = None
    trained: tuple[str, ...] = ()
    groups: tuple[str, ...]
    teachers: dict[str, RunName] = Field(default_factory=dict)
    pseudo: PseudoRules | None = None
    batch_size: Count
    batches_per_epoch: Count
    balance: Fraction = 0.0
    rare: Fraction = 0.0
    exclusion: Annotated[float, Field(ge=0)] = 0.0
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["constant", "polynomial", "cosine"] = "polynomial"
    selection: Literal["lowest loss", "best dice", "last"] = "last"

    @property
    def pseudo_rules(self) -> PseudoRules:
        return self.pseudo or UNFILTERED

    @property
    def builds_on(self) -> tuple[Run, ...]:
        """The runs that must be finished before this step."""
        labelling = (*self.teachers.values(), *self.pseudo_rules.earlier.values())
        return tuple(run for run in (self.starts_from, self.encoder_from, *labelling) if run is not None)


class Augmentation(Frozen):
    """Random changes of a training sample.

    probability   with which each change is made; rotation and zoom are one change
    noise_sd      standard deviation of Gaussian noise on intensities in [0, 1]
    scale         intensities are multiplied by a factor in [1 - scale, 1 + scale]
    shift         a number in [-shift, shift] is added to intensities
    gamma         intensities are raised to a power in [1 - gamma, 1 + gamma]
    rotation_deg  largest angle about the slice axis
    zoom          sizes are multiplied by a factor in [1 - zoom, 1 + zoom]
    foreground    share of the patches that are placed around a voxel of a label, off centre by up to a quarter patch
    """

    probability: Fraction = 0.5
    noise_sd: Annotated[float, Field(ge=0)] = 0.05
    scale: Fraction = 0.1
    shift: Fraction = 0.1
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    foreground: Fraction = 0.0


class Update(Frozen):
    """How the gradient of a batch changes the weights.

    accumulate  into how many parts a batch is divided, which are worked on one after another: the same loss and
                gradient in less memory, for the time of another forward pass
    clip_norm   largest norm of a gradient, see CLIP_WHY
    ema         decay of the moving average of the weights, which is then validated and kept; 0: no average
    """

    accumulate: Count = 1
    clip_norm: Annotated[float, Field(gt=0)] = 12.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def at_once(self, batch_size: int) -> int:
        """How many samples of a batch are worked on together, and so have to fit in memory."""
        return -(-batch_size // self.accumulate)


CLIP_WHY: Final = "nnU-Net's, far above the norms of a healthy run: it stops a single bad batch"


class TrainerPlan(Frozen):
    """All that one trainer needs.

    configuration  the name of the configuration, in Plan.configurations, that its images are prepared by
    network        the network that it trains, the same in every step
    augmentation   the same in every step
    update         the same in every step
    weight_decay   of AdamW, decoupled: an update takes the share learning rate * weight_decay off each weight
    steps          in order; step 1 is steps[0]
    why            choice -> the reason for it
    """

    configuration: str
    network: NetworkSpec
    augmentation: Augmentation = Augmentation()
    update: Update = Update()
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    why: dict[str, str] = Field(default_factory=dict)


class ScanSize(Frozen):
    """The size of a scan: voxels and mm, both (z, y, x)."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def extent_mm(self) -> tuple[float, ...]:
        return tuple(round(n * mm, 1) for n, mm in zip(self.shape, self.spacing_mm))

    def voxels_at(self, spacing_mm: tuple[float | None, ...]) -> float:
        """How many voxels the scan has after resampling to `spacing_mm`, where None keeps the scan's own."""
        return math.prod(self.extent_at(spacing_mm))

    def extent_at(self, spacing_mm: tuple[float | None, ...]) -> tuple[float, ...]:
        return tuple(
            n if wanted is None else max(1.0, n * own / wanted)
            for n, own, wanted in zip(self.shape, self.spacing_mm, spacing_mm)
        )


class Plan(Frozen):
    """Everything between a fingerprint and a prediction.

    recipe          with budget and without, the request that it was made for; see budget.Request
    seed            seed of all that is random: weights, order, patches, augmentation, and how cases are dealt to folds
    folds           into how many parts planning deals the annotated cases; a run holds out one of them, in every step;
                    1 where a person wrote splits.json with one
    precision       "auto" is bf16 autocast where the processor has it, else fp32
    save_every_s    seconds of training that can be lost; the state is saved after every epoch too
    fusion          how the predictions of the groups become one label map
    scans           sizes of scans of the set, by cost.memory.scans_of: what has to fit in the budget
    configurations  by name
    trainers        by name
    """

    largest_bytes = 16 << 20  # every step lists its patterns, of which a set may have hundreds
    version: Literal[1] = PLAN_VERSION
    recipe: Recipe
    without: Without | None = None
    dataset: str
    labels: LabelSet
    fingerprint_hash: str
    seed: Annotated[int, Field(ge=0)] = 0
    folds: Annotated[int, Field(ge=1, le=100)] = 5
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    save_every_s: Annotated[float, Field(ge=0)] = 600.0
    budget: Budget = Budget()
    fusion: Fusion = Fusion()
    scans: dict[str, ScanSize] = Field(default_factory=dict)
    configurations: dict[str, Configuration]
    trainers: dict[str, TrainerPlan]

    @property
    def request(self) -> Request:
        return Request(self.recipe, self.budget, self.without)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, trainer by trainer."""
        return tuple(Run(name, n) for name, part in self.trainers.items() for n in range(1, len(part.steps) + 1))

    @property
    def final_trainers(self) -> tuple[str, ...]:
        """The trainers that predict every group and teach no other one: what they predict is the result. A trainer may
        teach a later step of its own."""
        steps = [(name, step) for name, part in self.trainers.items() for step in part.steps]
        teachers = {run.trainer for name, step in steps for run in step.teachers.values() if run.trainer != name}
        every = set(self.labels.groups)
        return tuple(n for n, part in self.trainers.items() if set(part.network.groups) == every and n not in teachers)

    def trainer(self, name: str) -> TrainerPlan:
        """The part of one trainer. Raises UsageError where the plan has none, listing those it has."""
        if name not in self.trainers:
            raise unknown("trainer in this plan", name, self.trainers)
        return self.trainers[name]

    def configuration_of(self, trainer: str) -> Configuration:
        """The configuration of a trainer. Raises UsageError as `trainer` does."""
        return self.configurations[self.trainer(trainer).configuration]

    def step(self, trainer: str, number: int) -> Step:
        """Step `number`, counted from 1. Raises UsageError where there is no such step."""
        steps = self.trainer(trainer).steps
        if not 1 <= number <= len(steps):
            expected = f"1 to {len(steps)}" if len(steps) > 1 else "1, its only one"
            raise UsageError(f"step {number} of {trainer}", found="no such step", expected=expected)
        return steps[number - 1]
