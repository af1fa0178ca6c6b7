"""Compare every engine and precision of this machine on the same scans: speed, and the difference in DSC.

    python benchmarks/prediction/engines.py -m MODEL [--data FOLDER] [--device D] [--repeats 3] [--cases N] [--only W]

FOLDER is a data set with dataset.json and labelled test cases (default: $FLARENET_TEST_DATA/FLAREmini, else
../shared/data/FLAREmini). All run in one process and in turn, so that other load on the machine affects all alike.
Columns:

    open     seconds from the loaded model to an engine that has predicted its first window
    network  ms of the network alone per slice (2D) or block (3D), at the batch size of prediction; median
    case     seconds per case from file to label map, the engine open; mean over cases of the median of the repeats
    equal    share of voxels with the same label as torch fp32
    DSC      mean over cases and annotated labels that the model predicts, in points; `to fp32`: minus that of torch
             fp32; `worst`: the largest such difference of one label
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from flarenet.data.dataset_file import read_dataset
from flarenet.data.nifti import read_labels
from flarenet.errors import UsageError
from flarenet.evaluation.scores import dice
from flarenet.inference.engines.engine import open_engine, pick_device
from flarenet.inference.models.found import models_in
from flarenet.inference.models.model import load_model
from flarenet.inference.predict import Predictor

REFERENCE = ("torch", "fp32")
ON_CPU = (REFERENCE, ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"))
ON_CUDA = (REFERENCE, ("torch", "bf16"), ("torch", "fp16"))


def opened(model, ways, device):
    """({name: Predictor}, {name: seconds to open it}); what cannot be opened is reported and left out."""
    predictors, seconds = {}, {}
    for engine, precision in ways:
        began = time.perf_counter()
        try:
            ready = open_engine(
                # a separate network, because torch moves and reorders the one it is given
                load_model(model.folder).network,
                channels=model.channels,
                patch=model.configuration.patch,
                engine=engine,
                device=device,
                precision=precision,
            )
        except UsageError as problem:
            print(f"{engine} {precision}: left out\n  {problem}\n")
            continue
        ready(torch.zeros(1, model.channels, *model.configuration.patch))
        _finish(ready.device)
        seconds[ready.name] = time.perf_counter() - began
        predictors[ready.name] = Predictor(model, engine=ready)
    return predictors, seconds


def network_ms(predictors, repeats):
    """{name: median ms of the network per window, in a full batch}; the engines run in turn."""
    one = next(iter(predictors.values()))
    windows = torch.rand(one.members[0].batch_size, one.model.channels, *one.model.configuration.patch)
    found = {name: [] for name in predictors}
    for turn in range(3 * repeats + 1):
        for name, predictor in predictors.items():
            began = time.perf_counter()
            predictor.members[0].engine(windows)
            _finish(predictor.device)
            if turn:  # the first turn allocates memory
                found[name].append((time.perf_counter() - began) / len(windows) * 1e3)
    return {name: statistics.median(those) for name, those in found.items()}


def whole_cases(predictors, cases, labels, repeats):
    """({name: [seconds of a case]}, {name: [share of equal voxels]}, {name: {label: [DSC]}})."""
    seconds, equal = ({name: [] for name in predictors} for _ in range(2))
    scores = {name: {} for name in predictors}
    answered = set(next(iter(predictors.values())).shown)
    for case in cases:
        truth = read_labels(case.label, labels, values=case.values, reading=case.reading).data
        times, maps = {name: [] for name in predictors}, {}
        for _ in range(repeats):
            for name, predictor in predictors.items():
                prediction = predictor.predict(case.image, case.reading)
                times[name].append(prediction.seconds)
                maps[name] = prediction.labels
        reference = next(iter(maps.values()))
        for name, drawn in maps.items():
            seconds[name].append(statistics.median(times[name]))
            equal[name].append((drawn == reference).mean())
            for value in sorted(answered.intersection(case.annotated)):
                scores[name].setdefault(value, []).append(100 * dice(truth == value, drawn == value))
        print(f"{case.name}: done", flush=True)
    return seconds, equal, scores


def _finish(device):
    if "cuda" in str(device):
        torch.cuda.synchronize(device)


def _data():
    return Path(os.environ.get("FLARENET_TEST_DATA", "../shared/data")) / "FLAREmini"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, type=Path)
    parser.add_argument("--data", type=Path, default=_data())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, help="only the first N test cases")
    parser.add_argument("--only", nargs="+", metavar="ENGINE:PRECISION", help="beside torch fp32")
    arguments = parser.parse_args()

    device = pick_device(arguments.device)
    ways = ON_CUDA if device.type == "cuda" else ON_CPU
    if arguments.only:
        ways = (REFERENCE, *(tuple(word.split(":")) for word in arguments.only))
    (folder,) = models_in(arguments.model)
    model, dataset = load_model(folder), read_dataset(arguments.data)
    if model.labels.names != dataset.labels.names:
        parser.error(f"the model's labels are {model.labels.names}, those of {arguments.data} {dataset.labels.names}")
    cases = [case for case in dataset.test if case.label is not None and case.annotated][: arguments.cases]

    predictors, opening = opened(model, ways, str(device))
    alone = network_ms(predictors, arguments.repeats)
    seconds, equal, scores = whole_cases(predictors, cases, dataset.labels, arguments.repeats)

    network = model.plan.trainer(model.trainer).network
    print(
        f"\n{network.kind} {network.dimensions}D, patch {model.configuration.patch}, {torch.get_num_threads()} threads,"
    )
    print(f"{device}, {len(cases)} cases, {arguments.repeats} repeats\n")
    print("| engine | open s | network ms | case s | times faster | equal | DSC | to fp32 | worst |")
    print("|---|---|---|---|---|---|---|---|---|")
    first = next(iter(predictors))
    means = {name: {value: np.mean(those) for value, those in by.items()} for name, by in scores.items()}
    total = {name: np.mean([score for those in by.values() for score in those]) for name, by in scores.items()}
    for name in predictors:
        case = np.mean(seconds[name])
        worst = min((means[name][value] - means[first][value] for value in means[name]), key=lambda n: -abs(n))
        print(
            f"| {name} | {opening[name]:.1f} | {alone[name]:.1f} | {case:.2f} | {np.mean(seconds[first]) / case:.2f} "
            f"| {np.mean(equal[name]):.6f} | {total[name]:.2f} | {total[name] - total[first]:+.3f} | {worst:+.3f} |"
        )


if __name__ == "__main__":
    main()
