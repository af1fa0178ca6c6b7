"""OpenVINO's graphs of networks, kept in the user's cache for processes that then need no torch.

A graph lies in a folder named by a digest of all that it is made from. Its files are data and no code, and are compared
with their digests before they are used. What is damaged is made anew.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...errors import FlarenetError, RunError, UsageError
from ...schema import Frozen, digest, load, save
from ...whole import sha256_of, temporary_folder
from ...workspace import cache_folder
from ..models.about import Described, check_weights
from .openvino_engine import HINTS, OpenVinoEngine, core, find_openvino
from .processor import computes_bf16, may_have_gpu

if TYPE_CHECKING:
    import openvino

GRAPH, CONSTANTS, DIGESTS = "graph.xml", "graph.bin", "sha256.json"

MOST = 16
"""How many graphs are kept; those that have not been used for longest go first."""


class Digests(Frozen):
    """What sha256.json holds: file name -> SHA-256."""

    sha256: dict[str, str]


def open_kept(model: Described, *, engine: str, device: str, precision: str) -> OpenVinoEngine | None:
    """The engine that engines.open_engine would open for this model, from a kept graph, without torch.

    None where no graph is kept, where another engine or device may be chosen, and for a model that is loaded.
    Raises as load_model where the weights are not those of the model.
    """
    if precision == "auto":
        precision = "bf16" if computes_bf16() else "fp32"
    if model.is_loaded or engine not in ("auto", "openvino") or precision not in HINTS:
        return None
    if device not in ("auto", "cpu") or (device == engine == "auto" and may_have_gpu()):
        return None
    try:
        library = find_openvino()
    except UsageError:  # open_engine raises it, or takes torch
        return None
    folder = folder_of(model, library)
    graph = None if folder is None else read(folder, library)
    if graph is None:
        return None
    check_weights(model)
    return OpenVinoEngine(graph, groups=model.groups, precision=precision)


def keeper(model: Described) -> Callable[[openvino.Model], openvino.Model] | None:
    """What keeps the converted graph of a model, as OpenVinoEngine.of takes it; None for a model that came loaded."""
    return None if model.is_loaded else lambda graph: _kept(model, graph)


def folder_of(model: Described, library: Any) -> Path | None:
    """Where the graph of a model is kept; None where nothing is to be kept."""
    cache = cache_folder()
    if cache is None:
        return None
    made_from = {
        "weights": model.weights_sha256,
        "network": model.plan.trainer(model.trainer).network.model_dump(mode="json"),
        "outputs": model.labels.outputs,
        "patch": list(model.configuration.patch),
        "flarenet": __version__,
        "networks": [sha256_of(file) for file in sorted((Path(__file__).parents[2] / "networks").glob("*.py"))],
        "openvino": library.__version__,
    }
    return cache / "openvino" / digest(made_from)


def read(folder: Path, library: Any) -> openvino.Model | None:
    """The graph in `folder`; None where there is none. One that is damaged is removed, and a warning says so."""
    if not folder.is_dir():
        return None
    with suppress(FlarenetError, OSError, RuntimeError):  # the last is OpenVINO's own
        expected = load(Digests, folder / DIGESTS, RunError).sha256
        if expected == {name: sha256_of(folder / name) for name in (GRAPH, CONSTANTS)}:
            graph = core(library).read_model(folder / GRAPH)
            with suppress(OSError):  # whoever may not write here may read all the same
                os.utime(folder)
            return graph
    warnings.warn(f"{folder}: a kept graph of a network is damaged, and is made anew", stacklevel=2)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _kept(model: Described, graph: openvino.Model) -> openvino.Model:
    """`graph` as it is read again once it is kept. Where it cannot be kept, itself, and a warning says why."""
    library = find_openvino()
    folder = folder_of(model, library)
    if folder is None:
        return graph
    try:
        with temporary_folder(folder) as temporary:
            library.save_model(graph, temporary / GRAPH, compress_to_fp16=False)
            again = core(library).read_model(temporary / GRAPH)  # on a full disk saving may end without an error
            digests = {name: sha256_of(temporary / name) for name in (GRAPH, CONSTANTS)}
            save(Digests(sha256=digests), temporary / DIGESTS)
            _remove_oldest(folder.parent)
            temporary.rename(folder)
        return again
    except (FlarenetError, OSError, RuntimeError) as problem:
        if not folder.is_dir():  # else another process was faster
            warnings.warn(f"later starts take more time than they need: {folder} is not kept ({problem})", stacklevel=2)
        return graph


def _remove_oldest(folder: Path) -> None:
    """Leave room for one more graph; what killed processes left counts too."""
    by_age = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)
    for old in by_age[: max(0, len(by_age) - MOST)]:
        shutil.rmtree(old, ignore_errors=True)
