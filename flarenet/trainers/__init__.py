"""Trainers by name. Registering one here puts it into every new plan and behind `flarenet_train NAME`."""

from __future__ import annotations

from .cancer3d import Trainer3DCancer
from .dual_decoder2d import TrainerDualDecoder2D
from .joint import TrainerJoint
from .mae import TrainerMAE
from .organ3d import Trainer3DOrgan
from .trainer import Trainer

__all__ = [
    "TRAINERS",
    "Trainer",
    "Trainer3DCancer",
    "Trainer3DOrgan",
    "TrainerDualDecoder2D",
    "TrainerJoint",
    "TrainerMAE",
]

TRAINERS: dict[str, type[Trainer]] = {
    trainer.name: trainer
    for trainer in (Trainer3DOrgan, Trainer3DCancer, TrainerMAE, TrainerDualDecoder2D, TrainerJoint)
}
