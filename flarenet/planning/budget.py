"""The request for a plan, above all its budget of memory and time.

The planner chooses every size to fit the budget, and a plan is checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from ..schema import Frozen

Recipe = Literal["auto", "paper"]
Without = Literal["unlabelled"]
Size = Literal["s", "m", "l"]
Network3D = Literal["unet", "unetr", "swin_unetr"]
Positive = Annotated[float, Field(gt=0)]


class Budget(Frozen):
    """The budget. It is stored in the plan, so that a plan edited by hand is checked against the same numbers.

    gpu_memory_gb        memory of the card that trains; 16 GB is a common card, and the one the paper was timed on
    inference_memory_gb  memory of the process that predicts a large scan; 4 GB is FLARE's tolerance
    inference_seconds    time to predict a median scan; 15 s is FLARE's tolerance
    host_memory_gb       memory of a process that holds the largest case prepared for training
    size                 size of the U-Nets: "s" has the paper's widths in 3D and is narrower in 2D; "m" and "l" are
                         wider and have residual encoders
    network              network of the 3D trainers; a transformer starts from the encoder that MAE has trained
    """

    gpu_memory_gb: Positive = 16.0
    inference_memory_gb: Positive = 4.0
    inference_seconds: Positive = 15.0
    host_memory_gb: Positive = 8.0
    size: Size = "s"
    network: Network3D = "unet"


@dataclass(frozen=True)
class Request:
    """The request for a plan.

    recipe   the rules that make it: "auto" follows the data, "paper" has the published numbers
    without  the cases that the 2D curriculum leaves out; None: it uses all
    """

    recipe: Recipe
    budget: Budget
    without: Without | None = None


AUTO: Final = Request("auto", Budget())
PAPER: Final = Request("paper", Budget(gpu_memory_gb=64.0))
"""The paper trained on two V100 with 32 GB each (Table 1)."""

RECIPES: Final[dict[Recipe, Request]] = {"auto": AUTO, "paper": PAPER}
"""The default request of each recipe."""
