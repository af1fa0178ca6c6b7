"""A model that is ready to answer, with the engine that runs its network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import tee
from typing import TYPE_CHECKING

import numpy as np

from ..planning.cost.memory import windows_at_once
from ..volume import Triple
from .engines.graphs import keeper, open_kept
from .engines.openvino_engine import OpenVinoEngine
from .models.about import Described
from .views import View
from .windows import Slab, slabs

if TYPE_CHECKING:
    from .engines.engine import Engine


@dataclass(frozen=True, eq=False)
class Member:
    """A model, the engine that runs its network, and how many slices (2D) or blocks (3D) run at once."""

    model: Described
    engine: Engine
    batch_size: int

    def logits(
        self, planes: Iterable[np.ndarray], shape: Triple, view: View, *, descending: bool = False
    ) -> Iterator[Slab]:
        """Slabs of logits for a prepared image, as `view` shows it; see windows.slabs.

        planes      the image, float32 [Y, X] in [0, 1]
        shape       (z, y, x) of the image
        descending  whether planes and slabs come highest first; only for the view that changes nothing
        """
        configuration = self.model.configuration
        view = view.within(shape, configuration.patch, configuration.overlap)
        planes, shape = view.of(planes, shape)
        slabs_of = partial(
            slabs,
            self.engine,
            shape=shape,
            patch=configuration.patch,
            overlap=configuration.overlap,
            batch_size=self.batch_size,
            neighbours=configuration.neighbours,
            descending=descending,
        )
        if not self.model.plan.fusion.flips:
            return view.back(slabs_of(planes))
        from .flips import with_mirrored

        straight, other = tee(planes)
        flipped = (plane[:, ::-1] for plane in other)
        return view.back(with_mirrored(slabs_of(straight), slabs_of(flipped), self.model.labels))


def open_member(
    model: Described, *, engine: Engine | str, device: str, precision: str, batch_size: int | None
) -> Member:
    """A model with an engine, opened as open_engine says or given; batch_size None is as many as make it faster."""
    patch = model.configuration.patch
    if isinstance(engine, str):
        kept = open_kept(model, engine=engine, device=device, precision=precision)
        engine = kept or _opened(model, engine=engine, device=device, precision=precision, batch_size=batch_size)
    return Member(model, engine, batch_size or _at_once(engine, patch))


def _opened(model: Described, *, engine: str, device: str, precision: str, batch_size: int | None) -> Engine:
    from .engines.engine import open_engine  # imports torch

    patch, network = model.configuration.patch, model.loaded().network
    return open_engine(
        deepcopy(network) if model.is_loaded else network,  # whoever loaded it may have it run on another device
        channels=model.channels,
        patch=patch,
        engine=engine,
        device=device,
        precision=precision,
        batch_size=batch_size or windows_at_once(patch, on_cpu=False),
        keep=keeper(model),
    )


def _at_once(engine: Engine, patch: tuple[int, ...]) -> int:
    """More than OpenVINO runs, or a CPU gains from, would only be held in memory."""
    return 1 if isinstance(engine, OpenVinoEngine) else windows_at_once(patch, on_cpu=str(engine.device) == "cpu")
