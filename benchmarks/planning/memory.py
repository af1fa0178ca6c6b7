"""Compare the planner's memory estimates with the peak of a process that does the work, on a CPU in float32.

    python -m benchmarks.planning.memory [--only WORD]

Each number is from its own process: training steps, or the prediction of a synthetic scan by each engine that runs the
network. Prints estimate, peaks and the ratio of the estimate to the higher peak, which should be a little above 1.
Takes a quarter of an hour on a quiet core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

PAPER_2D, PAPER_3D = (16, 32, 64, 128, 256, 128), (16, 16, 32, 64, 128, 16)
RESIDUAL = {"features": (32, 64, 128, 256, 32), "blocks": (1, 3, 4, 6)}
OUTPUTS = {"organ": 13, "cancer": 1}
BOTH = ("organ", "cancer")

NETWORKS = {
    "paper 2D": {"kind": "dual_decoder", "dimensions": 2, "features": PAPER_2D, "groups": BOTH},
    "paper 3D": {"kind": "unet", "dimensions": 3, "features": PAPER_3D, "groups": ("organ",)},
    "residual 2D": {"kind": "residual_dual_decoder", "dimensions": 2, "groups": BOTH, **RESIDUAL},
    "residual 3D": {"kind": "residual_unet", "dimensions": 3, "groups": ("organ",), **RESIDUAL},
    "UNETR": {"kind": "unetr", "dimensions": 3, "features": (192, 768, 4, 4, 8), "groups": ("organ",)},
    "Swin UNETR": {"kind": "swin_unetr", "dimensions": 3, "features": (12,), "groups": ("organ",)},
    "narrow 2D": {"kind": "dual_decoder", "dimensions": 2, "features": (4, 4, 4, 4, 4, 4), "groups": BOTH},
}

NOT_CONVERTED = ("Swin UNETR",)
"""Networks that OpenVINO does not run; see docs/engines.md."""

ENGINES = ("torch", "openvino")

TRAINING = (
    ("paper 2D", (128, 128), 8),
    ("paper 2D", (128, 128), 16),
    ("paper 2D", (224, 224), 8),
    ("paper 3D", (64, 64, 64), 2),
    ("paper 3D", (96, 96, 96), 2),
    ("paper 3D", (96, 96, 96), 4),
    ("residual 2D", (128, 128), 8),
    ("residual 2D", (192, 192), 8),
    ("residual 3D", (64, 64, 64), 1),
    ("residual 3D", (64, 64, 64), 2),
    ("UNETR", (64, 96, 96), 2),
    ("UNETR", (96, 96, 96), 2),
    ("Swin UNETR", (64, 64, 64), 1),
    ("Swin UNETR", (64, 96, 96), 1),
)
"""(network, patch, batch)"""

ORGANS = [f"organ {value}" for value in range(1, 14)]

PREDICTION = (
    ("paper 2D", (224, 224), (16, 384, 384), 2.5),
    ("paper 3D", (96, 96, 96), (48, 240, 240), 2.5),
    ("UNETR", (96, 96, 96), (48, 120, 120), 2.5),
    ("Swin UNETR", (96, 96, 96), (48, 120, 120), 2.5),
    ("residual 2D", (256, 256), (8, 384, 384), 2.5),
    ("narrow 2D", (224, 224), (32, 512, 512), 2.5),
    ("narrow 2D", (224, 224), (32, 512, 512), 2.5, "fusion.flips=true"),
    ("narrow 2D", (224, 224), (120, 512, 512), 2.5, f"fusion.largest={json.dumps(ORGANS)}"),
    ("narrow 2D", (224, 224), (80, 512, 512), 1.0),
)
"""(network, patch, scan, slice spacing in mm, changes of the plan). Pixels are 0.8 mm, networks see 2.5 x 1 x 1 mm.
Where a scan is streamed, its length makes no difference: see benchmarks/prediction/memory.py."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(*json.loads(arguments.one))))
        return
    rows = [("training", *row) for row in TRAINING]
    rows += [("prediction", *row) for row in PREDICTION]
    print(f"{'work':58}{'estimate':>9}{'torch':>9}{'openvino':>9}{'ratio':>7}   (GB)")
    for row in rows:
        name = textwrap.shorten(" ".join(str(part) for part in row), 57, placeholder=" ...")
        if arguments.only in name:
            measured = [_apart(row, engine) for engine in _engines(*row[:2])]
            need_gb, highest_gb = measured[0][0], max(peak_gb for _, peak_gb in measured)
            peaks = "".join(f"{peak_gb:9.2f}" for _, peak_gb in measured) + " " * 9 * (len(ENGINES) - len(measured))
            print(f"{name:58}{need_gb:9.2f}{peaks}{need_gb / highest_gb:7.2f}", flush=True)


def _engines(work: str, network: str) -> tuple[str, ...]:
    """The installed engines that run the network."""
    converted = work == "prediction" and network not in NOT_CONVERTED
    return ENGINES if converted and importlib.util.find_spec("openvino") else ENGINES[:1]


def _apart(row: tuple, engine: str) -> tuple[float, float]:
    """(estimate, peak) in GB of one row, measured in its own process."""
    command = [sys.executable, "-m", "benchmarks.planning.memory", "--one", json.dumps((*row, engine))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    need_gb, peak_gb = json.loads(done.stdout)
    return need_gb, peak_gb


def _measure(work: str, network: str, patch: list[int], *row) -> tuple[float, float]:
    need_gb = {"training": _train, "prediction": _predict}[work](network, tuple(patch), *row)
    return need_gb, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _spec(network: str):
    from flarenet.planning.plan import NetworkSpec

    return NetworkSpec(**NETWORKS[network])


def _train(network: str, patch: tuple[int, ...], batch_size: int, _engine: str) -> float:
    """Take two training steps, as only the second one holds Adam's moments; returns the estimate in GB."""
    import torch

    from flarenet.cli.process import keep_freed_memory
    from flarenet.networks import build
    from flarenet.networks.memory_order import training_order
    from flarenet.planning.cost.memory import training_gb
    from flarenet.training.losses import marginal_loss

    if len(patch) == 2:  # as in flarenet_train
        keep_freed_memory()
    spec = _spec(network)
    model = build(spec, OUTPUTS, patch)
    order = training_order(len(patch), torch.device("cpu"))
    model.to(memory_format=order)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        loss = torch.zeros(())
        for group, logits in model(torch.rand(batch_size, 1, *patch).contiguous(memory_format=order)).items():
            target = torch.randint(0, 1 + OUTPUTS[group], (batch_size, *patch), dtype=torch.uint8)
            annotated = torch.ones(batch_size, 1 + OUTPUTS[group], dtype=torch.bool)
            loss = loss + marginal_loss(logits, target, annotated).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return training_gb(spec, OUTPUTS, patch=patch, batch_size=batch_size, precision="fp32")


def _write_scan(path: Path, shape: list[int], slice_mm: float) -> None:
    """Write a scan that is body from edge to edge, so that nothing is cropped, with one slice in memory at a time."""
    import nibabel
    import numpy as np

    header = nibabel.Nifti1Header()
    header.set_data_shape(shape[::-1])
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm")
    header.set_zooms((0.8, 0.8, slice_mm))
    header.set_sform(np.diag([0.8, 0.8, slice_mm, 1.0]), code="scanner")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with open(path, "wb") as file:
        file.write(header.binaryblock + bytes(4))
        for z in range(shape[0]):
            file.write(np.full(shape[1:], 50 + z % 2, dtype=np.int16).tobytes())


def _predict(network: str, patch: tuple[int, ...], shape: list[int], slice_mm: float, *words: str) -> float:
    from flarenet.data.labels import LabelSet
    from flarenet.inference.many import predict_pairs
    from flarenet.inference.models.model import Model
    from flarenet.inference.predict import Predictor
    from flarenet.networks import build
    from flarenet.planning.cost.memory import prediction_gb
    from flarenet.planning.plan import ScanSize
    from flarenet.planning.plan_file import override

    from ..one_network import plan_of

    *changes, engine = words
    names = ("background", *ORGANS, "tumor")
    labels = LabelSet(names=names, groups={"organ": tuple(range(1, 14)), "cancer": (14,)})
    spec = _spec(network)
    plan = override(plan_of(spec, labels, spacing_mm=(2.5, 1.0, 1.0), patch=patch), changes)
    model = Model(plan, "Net", 1, Path(), "", build(spec, OUTPUTS, patch).eval())
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii"
        _write_scan(scan, shape, slice_mm)
        predictor = Predictor(model, device="cpu", precision="fp32", engine=engine)
        _, failures = predict_pairs(predictor, {scan: Path(folder) / "scan.nii.gz"}, progress=lambda *_: None)
    if failures:
        raise SystemExit(str(failures))
    asked = ScanSize(shape=tuple(shape), spacing_mm=(slice_mm, 0.8, 0.8))
    return prediction_gb(asked, plan.configurations["only"], spec, OUTPUTS, fusion=plan.fusion)


if __name__ == "__main__":
    main()
