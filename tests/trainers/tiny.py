"""A tiny phantom set, planned: networks that learn nothing worth having, in seconds."""

from flarenet.cli import plan
from flarenet.phantom import write_phantom_set
from flarenet.workspace import Workspace

GRIDS = (
    "configurations.3d.spacing_mm=[10,9,9]",
    "configurations.3d.inference_spacing_mm=[10,9,9]",
    "configurations.3d.patch=[32,32,32]",
    "configurations.2d.spacing_mm=[null,8,8]",
    "configurations.2d.inference_spacing_mm=[null,8,8]",
    "configurations.2d.patch=[32,48]",
)
TINY = (
    *GRIDS,
    "folds=2",
    "trainers.*.steps.*.batch_size=2",
    "trainers.*.steps.*.batches_per_epoch=2",
    "trainers.*.steps.*.epochs=2",
    "trainers.*.steps.*.warmup_epochs=0",
    "trainers.DualDecoder2D.steps.*.selection=best dice",
    "trainers.3DOrgan.network.features=[4,4,8,8,8,4]",
    "trainers.3DCancer.network.features=[4,4,8,8,8,4]",
    "trainers.DualDecoder2D.network.features=[4,4,8,8,8,4]",
)
AUTOENCODER = (*TINY, "trainers.MAE.network.features=[12,12,1,2,12,12,1,2]")
"""The changes with which MAE is trained: a plan of U-Nets has none to change."""


def planned(root, *, cases=6):
    """The workspace of a planned set P of so many cases, and one to test on, below `root`."""
    write_phantom_set(root / "raw" / "P", cases=cases, test_cases=1, seed=0, detail=0.5)
    assert plan.main(["-d", "P", "--root", str(root), "--workers", "1", "--set", *TINY]) == 0
    return Workspace(root, "P")
