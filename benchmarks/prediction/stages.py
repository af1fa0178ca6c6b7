"""Time the stages of a prediction on a CPU: each stage, the network alone on the same windows, the whole case.

    python -m benchmarks.prediction.stages [--slices 100] [--repeats 3] [--narrow | -m MODEL] [--threads 2]
        [--engine auto] [--precision auto]

The paper's 2D network on a phantom of 512 x 512 pixels, from a gzip file to a gzip file, in this process; the model is
loaded before. The stages run in parallel, so their seconds add up to more than the whole; "all but the network" is the
whole minus the network alone, which predicts windows of the same shapes with nothing else running. Medians, the whole
and the network in turn. An untrained network's labels change from pixel to pixel, the worst case for the stage
"labels": -m MODEL takes a trained one, of a 2D or 3D network. The engine is the default of flarenet_predict.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import torch

from flarenet.inference.engines.engine import Engine
from flarenet.inference.engines.openvino_engine import OpenVinoEngine
from flarenet.inference.many import predict_pairs
from flarenet.inference.models.found import models_in
from flarenet.inference.predict import Predictor

from .cases import FEATURES, PIXELS, write_model, write_scan


class Noting:
    """An engine that records the shapes of the windows it predicts."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name, self.device = engine, engine.name, engine.device
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        self.shapes.append(tuple(windows.shape))
        return self.engine(windows)


class NotingOpenVino(OpenVinoEngine):
    """The same for OpenVINO, which a prediction must know: it then asks for arrays, one window at a time."""

    def __init__(self, engine: OpenVinoEngine) -> None:
        self.__dict__.update(vars(engine))
        self.engine = engine
        self.shapes: list[tuple[int, ...]] = []

    def arrays(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        self.shapes.append(windows.shape)
        return self.engine.arrays(windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--pixels", type=int, default=PIXELS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--narrow", action="store_true", help="four channels a layer, for a quick run")
    parser.add_argument("-m", "--model", type=Path, help="a model folder in place of the paper's network, untrained")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ["FLARENET_CACHE"] = ""  # no graph of a passing network is kept
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scan(folder / "scan.nii.gz", arguments.slices, pixels=arguments.pixels)
        model = arguments.model or write_model(folder / "model", features=(4,) * 6 if arguments.narrow else FEATURES)
        (model,) = models_in(model)
        predictor = Predictor(model, device="cpu", precision=arguments.precision, engine=arguments.engine)
        engine = predictor.members[0].engine
        noting = NotingOpenVino(engine) if isinstance(engine, OpenVinoEngine) else Noting(engine)
        predictor = Predictor(predictor.model, engine=noting)
        seconds: dict[str, list[float]] = defaultdict(list)
        for _ in range(arguments.repeats):
            noting.shapes.clear()
            for stage, took in predicted(predictor, folder).items():
                seconds[stage].append(took)
            seconds["network alone"].append(alone(noting))
    rows = {name: median(times) for name, times in seconds.items()}
    rows["all but the network"] = rows["whole"] - rows["network alone"]
    print(f"| {arguments.slices} slices, {engine.name} | seconds |\n|---|---|")
    for name, took in rows.items():
        print(f"| {name} | {took:.2f} |")
    print(f"whole / network alone: {rows['whole'] / rows['network alone']:.2f}")


def predicted(predictor: Predictor, folder: Path) -> dict[str, float]:
    """{stage: seconds}, with those from file to file as "whole"."""
    found: dict[str, float] = {}

    def tell(_: Path, result) -> None:
        if isinstance(result, Exception):
            raise result
        found.update(result.stage_s)

    began = time.perf_counter()
    predict_pairs(predictor, {folder / "scan.nii.gz": folder / "out.nii.gz"}, progress=tell)
    return {**found, "whole": time.perf_counter() - began}


def alone(noting: Noting | NotingOpenVino) -> float:
    """Seconds of the network alone, on windows of the recorded shapes."""
    windows = {shape: torch.rand(shape) for shape in set(noting.shapes)}
    began = time.perf_counter()
    for shape in noting.shapes:
        noting.engine(windows[shape])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
