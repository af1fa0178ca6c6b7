"""Mutated JSON files: whatever stands in them, they are read or refused with one of flarenet's own errors."""

from __future__ import annotations

import copy
import json
import random

import pytest

from flarenet.data.dataset_file import dataset_findings
from flarenet.data.layouts import read_source
from flarenet.data.layouts.merge import LabelNames, merge
from flarenet.data.settled import load_settled
from flarenet.errors import DatasetError, FlarenetError
from flarenet.schema import load

SEEDS = 250
JUNK = [
    *(None, True, 0, -1, 1.5, 10**30, 1e308, "", "../x", "\0", "\ud800", "x" * 500, "*", "[", "NaN", "background"),
    *([], {}, [[]], {"": []}, ["liver", "liver"], {"0": {}}),
]
OWN = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumor": 2},
    "groups": {"organ": [1], "cancer": ["tumor"]},
    "tolerance_mm": {"liver": 5},
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "patterns": {"a": {"annotated": [1], "cases": ["x*"]}},
    "dataset": {
        "x1": {"images": ["a.nii.gz"], "label": "b.nii.gz", "values": {"6": 1}},
        "y1": {"images": ["c.nii.gz"], "label": "d.nii.gz", "annotated": [1]},
    },
    "test": {"t": {"images": ["e.nii.gz"]}},
}
DECATHLON = {
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "liver", "2": "cancer"},
    "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    "test": ["./imagesTs/b.nii.gz"],
}
LABEL_MAP = {
    "table": {"labels": {"liver": 1, "tumor": 2}, "groups": {"organ": [1], "cancer": ["tumor"]}},
    "sources": {"S": {"cancer": "tumor", "liver": None}},
}
SETTLED = {
    "version": 1,
    "name": "N",
    "folder": "../../raw/N",
    "labels": {"names": ["background", "liver"], "groups": {"organ": [1]}, "tolerance_mm": {}},
    "modality": "CT",
    "cases": [{"name": "a", "image": "a.nii.gz", "label": "b.nii.gz", "annotated": [1], "values": {"6": 1}}],
    "test": [],
}


def places(value, path=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


def mutate(content, rng):
    """`content` with one to four places replaced, renamed, removed or filled with a part of it from elsewhere."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 4)):
        if not (found := list(places(content))):
            break
        *path, last = rng.choice(found)
        holder = content
        for key in path:
            holder = holder[key]
        how = rng.choice(("replace", "replace", "rename", "remove", "graft"))
        if how == "replace":
            holder[last] = rng.choice(JUNK)
        elif how == "graft":
            holder[last] = copy.deepcopy(rng.choice(list(content.values())) if isinstance(content, dict) else JUNK)
        else:
            value = holder.pop(last)
            if how == "rename" and isinstance(holder, dict):
                holder[str(rng.choice(JUNK))] = value
    return content


def mutated(content, seed):
    """The bytes of a mutated file; every fifth has bytes flipped too."""
    rng = random.Random(seed)
    text = bytearray(json.dumps(mutate(content, rng)).encode())
    for _ in range(3 if seed % 5 == 0 else 0):
        text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text)


def read_own(folder):
    dataset, findings = dataset_findings(folder)
    assert dataset is not None or findings
    if dataset is None:
        raise FlarenetError("refused")


def read_merged(folder):
    (folder / "S").mkdir(exist_ok=True)
    (folder / "S" / "dataset.json").write_text(json.dumps(DECATHLON))
    merge([read_source(folder / "S")], folder, load(LabelNames, folder / "dataset.json", DatasetError))


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (OWN, read_own),
        (DECATHLON, read_source),
        (LABEL_MAP, read_merged),
        (SETTLED, lambda folder: load_settled(folder / "dataset.json")),
    ],
    ids=["own", "decathlon", "label map", "settled"],
)
def test_mutated_files_are_read_or_refused(tmp_path, content, read):
    refused = 0
    for seed in range(SEEDS):
        (tmp_path / "dataset.json").write_bytes(mutated(content, seed))
        try:
            read(tmp_path)
        except FlarenetError:
            refused += 1
    assert SEEDS / 4 < refused < SEEDS  # the mutations hit, and not all of them
