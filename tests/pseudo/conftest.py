"""A prepared set of four scans of blocks, and teachers that tell them by brightness.

Every scan is 10 x 16 x 16 voxels of 1 mm: a liver of 150 HU, 6 x 10 x 10 voxels, of which a doubtful top layer has
100 HU, and lesions of 300 HU: 27 voxels in the liver, one voxel in the liver, 27 voxels in the air.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from flarenet.data.dataset import Case, Dataset
from flarenet.data.labels import LabelSet
from flarenet.data.settled import save_settled
from flarenet.planning.fusion import Fusion
from flarenet.planning.plan import Augmentation, Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan
from flarenet.planning.plan_file import save_plan
from flarenet.planning.pseudo_rules import PseudoRules
from flarenet.planning.runs import Run
from flarenet.preparation.dataset import prepare_dataset
from flarenet.workspace import Workspace

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
SHAPE = (10, 16, 16)
LIVER, DOUBTFUL, TUMOR, SPECK, STRAY = (
    np.s_[2:8, 2:12, 2:12],
    np.s_[7, 2:12, 2:12],
    np.s_[3:6, 4:7, 4:7],
    np.s_[4, 10, 10],
    np.s_[0:3, 13:16, 13:16],
)
RULES = PseudoRules(passes=3, agreement=1.0, least_mm3=8.0, hosts="drawn")
CONFIGURATION = Configuration(
    spacing_mm=(1.0, 1.0, 1.0), inference_spacing_mm=(1.0, 1.0, 1.0), patch=(32, 32, 32), clip_hu=(-1000.0, 500.0)
)


def scan(doubtful_hu=100):
    image = np.full(SHAPE, -900, dtype=np.int16)
    image[LIVER], image[DOUBTFUL] = 150, doubtful_hu
    for lesion in (TUMOR, SPECK, STRAY):
        image[lesion] = 300
    return image


def truth():
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    drawn[LIVER], drawn[TUMOR] = 1, 2
    return drawn


@dataclass
class Teacher:
    """Stands for a Predictor of one group; brighter views (odd passes) miss what is doubtful.

    knows  whether it finds anything at all
    configuration, fusion  how its model would predict
    """

    group: str
    weights: str = "0" * 64
    knows: bool = True
    configuration: Configuration = CONFIGURATION
    fusion: Fusion = Fusion()
    asked: list = field(default_factory=list)

    @property
    def model(self):
        part = SimpleNamespace(augmentation=Augmentation())
        return SimpleNamespace(
            trainer=f"Teacher-{self.group}",
            weights_sha256=self.weights,
            plan=SimpleNamespace(trainer=lambda name: part, fusion=self.fusion),
            configuration=self.configuration,
            folder=SimpleNamespace(seen=("lesion",)),  # in place of a folder, what about.json in it says
        )

    def predict_views(self, volume, views):
        for view in views:
            self.asked.append(view)
            organ = (volume.data >= (125 if view.scale > 1 else 75)) & (volume.data < 200)
            found = organ if self.group == "organ" else volume.data >= 200
            yield {self.group: (found & self.knows).astype(np.uint8)}


def make_teachers():
    return {Run("Organ", 1): Teacher("organ"), Run("Cancer", 1): Teacher("cancer", "1" * 64)}


@pytest.fixture
def teachers():
    return make_teachers()


def step_of(rules):
    return Step(
        subset=Subset(patterns=((), (2,), (1, 2))),
        groups=("organ", "cancer"),
        teachers={"organ": Run("Organ", 1), "cancer": Run("Cancer", 1)},
        pseudo=rules,
        batch_size=1,
        batches_per_epoch=1,
        epochs=1,
        learning_rate=1.0,
    )


def plan_of(rules):
    network = NetworkSpec(kind="unet", dimensions=3, features=(2,) * 6, groups=("organ", "cancer"))
    part = TrainerPlan(configuration="3d", network=network, steps=(step_of(None).model_copy(update={"teachers": {}}),))
    student = part.model_copy(update={"steps": (step_of(rules),)})
    return Plan(
        recipe="auto",
        dataset="Blocks",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={"3d": CONFIGURATION},
        trainers={"Organ": part, "Cancer": part, "Student": student},
    )


@pytest.fixture
def blocks(tmp_path):
    return make_blocks(tmp_path)


def make_blocks(root):
    """(workspace, cases): `drawn` has everything, `lesion` its tumor only, `bare` and `firm` (no doubt) nothing."""
    workspace = Workspace(root, "Blocks")
    cases = tuple(
        _case(workspace.raw, name, annotated, doubtful_hu=140 if name == "firm" else 100)
        for name, annotated in (("drawn", {1, 2}), ("lesion", {2}), ("bare", set()), ("firm", set()))
    )
    dataset, plan = Dataset("Blocks", workspace.raw, LABELS, cases, ()), plan_of(RULES)
    assert prepare_dataset(dataset, plan, workspace) == []
    save_settled(dataset, workspace.settled)
    save_plan(plan, workspace.plan)
    return workspace, cases


def _case(raw, name, annotated, *, doubtful_hu):
    image, label = raw / f"imagesTr/{name}_0000.nii.gz", raw / f"labelsTr/{name}.nii.gz"
    write_scan(image, scan(doubtful_hu))
    if annotated:
        write_scan(label, np.where(np.isin(truth(), list(annotated)), truth(), 0).astype(np.uint8))
    return Case(name, image, label if annotated else None, frozenset(annotated))


def write_scan(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4))
    file.header.set_xyzt_units("mm")
    file.set_sform(np.eye(4), 1)
    file.set_qform(np.eye(4), 1)
    nibabel.save(file, path)
