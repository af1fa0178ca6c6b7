"""A small model, and zip files made by hand."""

import hashlib
import json
import zipfile

import torch

from flarenet.data.labels import LabelSet
from flarenet.inference.models.model import save_model
from flarenet.networks import build
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan

LABELS = LabelSet(names=("background", "liver"), groups={"organ": (1,)})
NETWORK = NetworkSpec(kind="unet", dimensions=2, features=(2, 2, 2, 2, 2, 2), groups=("organ",))


def small_plan(network=NETWORK):
    numbers = {"batch_size": 1, "batches_per_epoch": 1, "epochs": 1, "learning_rate": 1.0}
    step = Step(subset=Subset(patterns=((1,), ())), groups=("organ",), **numbers)
    spacing = (None, 1.0, 1.0)
    seen = Configuration(spacing_mm=spacing, inference_spacing_mm=spacing, patch=(32, 32), clip_hu=(-200.0, 300.0))
    return Plan(
        recipe="auto",
        dataset="Toy",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={"2d": seen},
        trainers={"Toy2D": TrainerPlan(configuration="2d", network=network, steps=(step, step))},
    )


def train(folder, *, seed=0, step=2, groups=NETWORK.groups):
    """What a finished run leaves in `folder`, with random weights; without `groups` its network segments nothing."""
    torch.manual_seed(seed)
    spec = NETWORK.model_copy(update={"groups": groups})
    network = build(spec, {group: LABELS.outputs[group] for group in groups})
    save_model(
        folder,
        network,
        plan=small_plan(spec),
        trainer="Toy2D",
        step=step,
        seen=["case_1", "case_2"],
        summary={"dice organ": 0.5},
    )


def members_of(file):
    """{name: bytes} of a zip file."""
    with zipfile.ZipFile(file) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def zipped(members, file, compress=zipfile.ZIP_STORED):
    """Write a zip file of (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(file, "w", compress) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def files_below(folder):
    """{path: bytes} of every file and link below a folder."""
    return {
        path: path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*")) if not path.is_dir()
    }


def sealed(members):
    """`members` of a model file, changed by whoever can also correct every digest in it."""
    members = dict(members)
    for name in [name for name in members if name.endswith("about.json")]:
        place = name.removesuffix("about.json")
        try:
            about = json.loads(members[name])
        except ValueError:  # damaged on purpose
            continue
        if not isinstance(about, dict) or not isinstance(about.get("sha256"), dict):
            continue
        about["sha256"] = {part: digest(members[place + part]) for part in about["sha256"] if place + part in members}
        members[name] = resealed(about)
    manifest = json.loads(members["manifest.json"])
    manifest["files"] = {
        name: {"bytes": len(content), "sha256": digest(content)}
        for name, content in members.items()
        if name != "manifest.json"
    }
    members["manifest.json"] = json.dumps(manifest).encode()
    return members


def resealed(about):
    """The bytes of an about.json with the digest of the rest of its content made right again."""
    rest = {name: value for name, value in about.items() if name != "content_sha256"}
    return json.dumps({**rest, "content_sha256": digest(json.dumps(rest, sort_keys=True).encode())}).encode()


def digest(content):
    return hashlib.sha256(content).hexdigest()
