"""What training and prediction may use: the planner chooses every size to fit, and a plan is checked against it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..schema import Frozen

Size = Literal["s", "m", "l"]
Network3D = Literal["unet", "unetr", "swin_unetr"]
Positive = Annotated[float, Field(gt=0)]


class Budget(Frozen):
    """Stored in the plan, so that a plan edited by hand is checked against the same numbers.

    gpu_memory_gb        of the card that trains; 16 GB is a common card, and the one the paper was timed on
    inference_memory_gb  of the process that predicts a large scan; 4 GB is FLARE's tolerance
    inference_seconds    for a median scan; 15 s is FLARE's tolerance
    host_memory_gb       of a process that holds the largest case prepared for training
    size                 of the U-Nets: "s" is the paper's, "m" and "l" are wider with residual encoders
    network              of the 3D trainers; a transformer begins with the encoder that MAE has trained
    """

    gpu_memory_gb: Positive = 16.0
    inference_memory_gb: Positive = 4.0
    inference_seconds: Positive = 15.0
    host_memory_gb: Positive = 8.0
    size: Size = "s"
    network: Network3D = "unet"


PAPER = Budget(gpu_memory_gb=64.0)
"""The paper trained on two V100 with 32 GB (Table 1)."""


def default_budget(recipe: str) -> Budget:
    """What a recipe plans for where nobody says otherwise."""
    return PAPER if recipe == "paper" else Budget()
