"""Train nnU-Net v2 on a partially annotated data set for a fixed time, to compare its scores with flarenet's.

    python -m benchmarks.gpu.beside_nnunet --data FLAREmini --out OUT --seconds 150 --python PYTHON
    python -m benchmarks.gpu.beside_nnunet ... --device cpu --seconds 60 --batch 2 --iterations 2 --workers 2  # small

PYTHON has nnunetv2 2.8.1; its own code plans, prepares, trains and predicts with its defaults. --seconds are from the
start of the training process to its end: imports, loaders and compilation count. The decay of the learning rate is
planned from the seconds of its epochs, so that it ends when the time ends. Preparation, prediction and scoring are not
counted. A finished phase is not repeated; --only runs one phase. Cases are reoriented to RAS by their headers, which
spares nnU-Net the mixed orientations.

nnU-Net's ignore label is all or nothing: it leaves a voxel out of the loss. In a partially annotated case an unlabelled
voxel means "none of these labels, perhaps another one", which nnU-Net cannot express. No case here is annotated for
everything. So, strictly, no voxel of the data set would be background, and nothing would keep one organ from growing
over everything else. Therefore:

- in the cases annotated for the most labels (12 organs), unlabelled voxels stay background; tumors and the duodenum are
  taught as background there;
- in cases annotated for fewer, every voxel that no annotated label covers gets the ignore label;
- cases without any annotation are left out, since none of their voxels would count;
- a label annotated nowhere (the duodenum) stays in the table: the network learns that it never occurs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

PHASES = ("prepare", "train", "predict")
SET = "Dataset001_Partial"
EVALUATE = [sys.executable, "-c", "import sys; from flarenet.cli.evaluate import main; sys.exit(main())"]
PREPARE = "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry as entry"
SCRIPT = Path(__file__).with_name("nnunet_train.py")


def main() -> int:
    arguments = read_arguments()
    side = Side(arguments)
    failed = {}
    for phase in PHASES if arguments.only is None else (arguments.only,):
        for configuration in ("",) if phase == "prepare" else arguments.configurations:
            try:
                if phase == "prepare":
                    side.prepare()
                elif phase == "train":
                    side.train(configuration)
                else:
                    side.predict(configuration)
            except (subprocess.CalledProcessError, OSError) as error:  # the other configuration goes on
                failed[f"{phase} {configuration}".strip()] = str(error)
    print(side.table())
    for name, reason in failed.items():
        print(f"\n{name} failed: {reason}")
    return 1 if failed else 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder FLAREmini")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="a Python that has nnunetv2 (default: this one)")
    parser.add_argument("--seconds", type=float, default=150.0, help="of each training (default: %(default)s)")
    parser.add_argument("--configurations", nargs="+", default=["2d", "3d_fullres"])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="(default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=25, help="of an epoch (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="another batch size than nnU-Net plans")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, whose start counts")
    parser.add_argument("--only", choices=PHASES)
    return parser.parse_args()


@dataclass(frozen=True)
class Side:
    """nnU-Net's side of the comparison, below `--out`."""

    arguments: argparse.Namespace

    @property
    def folder(self) -> Path:
        return self.arguments.out.resolve()

    @property
    def prepared(self) -> Path:
        return self.folder / "preprocessed" / SET

    @property
    def environment(self) -> dict[str, str]:
        names = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
        workers = str(self.arguments.workers)
        return {
            **os.environ,
            **{name: str(self.folder / value) for name, value in names.items()},
            **{name: workers for name in ("nnUNet_def_n_proc", "nnUNet_n_proc_DA")},
            **({"nnUNet_compile": "f"} if self.arguments.no_compile else {}),
        }

    def model(self, configuration: str) -> Path:
        return self.folder / "results" / SET / f"nnUNetTrainer__nnUNetPlans__{configuration}" / "fold_all"

    def scores(self, configuration: str) -> Path:
        return self.folder / f"nnunet_{configuration}"

    def prepare(self) -> None:
        """Write the data set for nnU-Net, and let nnU-Net measure, plan and preprocess it."""
        record = self.folder / "prepared.json"
        if record.is_file():
            return
        write_raw(self.arguments.data.resolve(), self.folder / "raw" / SET)
        workers = str(self.arguments.workers)
        words = ["-d", "1", "-c", *self.arguments.configurations, "-npfp", workers, "-np", workers, "--clean"]
        seconds = self._call([self.arguments.python, "-c", f"{PREPARE}; entry()", *words])
        if self.arguments.batch:
            change_batch(self.prepared / "nnUNetPlans.json", self.arguments.batch)
        record.write_text(json.dumps({"seconds": seconds}))

    def train(self, configuration: str) -> None:
        """Train for the given time; from the start if an earlier call was killed."""
        record = self.scores(configuration) / "trained.json"
        if record.is_file():
            return
        words = [repr(time.time() + self.arguments.seconds), str(self.arguments.iterations)]
        seconds = self._script("train", configuration, *words)
        said = json.loads((self.model(configuration) / "trained.json").read_text())
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"seconds": seconds, **said}))

    def predict(self, configuration: str) -> None:
        """Predict the test cases and score them."""
        out, record = self.scores(configuration), self.scores(configuration) / "predicted.json"
        data = self.arguments.data.resolve()
        if not record.is_file():
            seconds = self._script("predict", configuration, str(data / "imagesTs"), str(out / "predictions"))
            record.write_text(json.dumps({"seconds": seconds}))
        root = self.folder / "flarenet"
        link(data, root / "raw" / data.name)
        where = ["-p", str(out / "predictions"), "-g", str(data / "labelsTs"), "-o", str(out)]
        words = ["-d", data.name, "--root", str(root), "--workers", str(self.arguments.workers)]
        self._call([*EVALUATE, *where, *words])

    def table(self) -> str:
        """DSC and NSD by class for every configuration, then the time and memory of each, as Markdown."""
        seconds = number(read(self.folder / "prepared.json").get("seconds"), 1)
        return "\n".join([*self._scores(), "", *self._costs(), "", f"planned and preprocessed in {seconds} s"])

    def _scores(self) -> list[str]:
        names = self.arguments.configurations
        titles = [f"{name} {measure}" for name in names for measure in ("DSC", "NSD")]
        found = []
        for name in names:
            metrics = read(self.scores(name) / "metrics.json")
            means = {f"mean, {group}": score for group, score in metrics.get("groups", {}).items()}
            found.append({**metrics.get("classes", {}), **means})
        lines = ["| class | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
        for row in dict.fromkeys(row for each in found for row in each):
            values = [each.get(row, {}).get(measure) for each in found for measure in ("dsc", "nsd")]
            lines.append(f"| {row} | " + " | ".join(number(value, 3) for value in values) + " |")
        return lines

    def _costs(self) -> list[str]:
        titles = ("nnU-Net", "patch", "batch", "epochs", "iterations", "loss", "seconds trained", "peak GPU MB")
        lines = ["| " + " | ".join((*titles, "seconds predicted")) + " |", "|---" * (1 + len(titles)) + "|"]
        for name in self.arguments.configurations:
            took, predicted = (read(self.scores(name) / file) for file in ("trained.json", "predicted.json"))
            digits = {"batch": 0, "epochs": 0, "iterations": 0, "loss": 3, "seconds": 1, "peak_mb": 0}
            cells = [name, "x".join(str(side) for side in took.get("patch", "-"))]
            cells += [number(took.get(key), places) for key, places in digits.items()]
            lines.append("| " + " | ".join([*cells, number(predicted.get("seconds"), 1)]) + " |")
        return lines

    def _script(self, task: str, configuration: str, *words: str) -> float:
        where = [configuration, str(self.prepared), self.arguments.device]
        return self._call([self.arguments.python, str(SCRIPT), task, *where, *words])

    def _call(self, line: list[str]) -> float:
        """Run a command to its end; returns its seconds. Raises CalledProcessError where it fails."""
        print("$", *line, file=sys.stderr, flush=True)
        began = time.perf_counter()
        subprocess.run(line, env=self.environment, stdout=sys.stderr, check=True)
        return time.perf_counter() - began


def write_raw(data: Path, raw: Path) -> None:
    """Write `data` (with flarenet's dataset.json) in nnU-Net's format below `raw`; images are links."""
    described = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    cases = {name: case for name, case in described["dataset"].items() if case.get("annotated")}
    fullest = max(len(case["annotated"]) for case in cases.values())
    ignore = 1 + max(described["labels"].values())
    (raw / "labelsTr").mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        for channel, image in enumerate(case["images"]):
            link(data / image, raw / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        scan = nibabel.load(data / case["label"])
        labels = np.asarray(scan.dataobj).astype(np.uint8)
        known = np.isin(labels, case["annotated"])
        if len(case["annotated"]) == fullest:
            known |= labels == 0
        labels[~known] = ignore
        nibabel.save(nibabel.Nifti1Image(labels, scan.affine), raw / "labelsTr" / f"{name}.nii.gz")
    content = {
        "channel_names": described["channel_names"],
        "labels": {**described["labels"], "ignore": ignore},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    (raw / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def change_batch(plans: Path, batch: int) -> None:
    content = json.loads(plans.read_text())
    for configuration in content["configurations"].values():
        if "batch_size" in configuration:
            configuration["batch_size"] = batch
    plans.write_text(json.dumps(content, indent=1))


def link(target: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(target)


def read(path: Path) -> dict:
    """The content of a JSON file; empty where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
