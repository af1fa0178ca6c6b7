"""Real scans, answered slice by slice from their files, beside resampling and argmax of the whole at once.

FLARENET_FULL=1 takes all scans.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.one_network import plan_of
from flarenet.data.labels import LabelSet, join
from flarenet.data.nifti import read_image
from flarenet.inference.models.model import Model
from flarenet.inference.predict import Predictor
from flarenet.inference.views import View
from flarenet.networks import build
from flarenet.planning.plan import NetworkSpec
from flarenet.preparation.prepare import normalise, prepare_image

DATA = Path(os.environ.get("FLARENET_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
LABELS = LabelSet(names=("background", *"abcdef", "tumor"), groups={"organ": (1, 2, 3, 4, 5, 6), "cancer": (7,)})
MODELS = {
    "slices": {"patch": (96, 96), "spacing_mm": (None, 3.0, 3.0)},
    "thinned slices": {"patch": (96, 96), "spacing_mm": (7.0, 3.0, 3.0)},
    "blocks": {"patch": (32, 48, 48), "spacing_mm": (4.0, 4.0, 4.0)},
}


def predictor(name):
    """A network with random weights, whose answer has borders everywhere."""
    patch = MODELS[name]["patch"]
    spec = NetworkSpec(kind="unet", dimensions=len(patch), features=(4,) * 6, groups=tuple(LABELS.groups))
    torch.manual_seed(0)
    network = build(spec, LABELS.outputs, patch).eval()
    model = Model(plan_of(spec, LABELS, **MODELS[name]), "Net", 1, Path(), "", network)
    return Predictor(model, device="cpu", precision="fp32", engine="torch")


def answer_of_the_whole(predictor, volume):
    """uint8 [Z, Y, X] on the scan's own grid, and where the two best logits of a group are no further apart than
    rounding could make up for."""
    (member,) = predictor.members
    prepared = prepare_image(volume, member.model.configuration)
    frame, image = prepared.frame, normalise(prepared.image)
    slabs = [logits for _, logits in member.logits(image, image.shape, View())]
    near, maps = np.zeros(volume.data.shape, dtype=bool), {}
    for group in LABELS.groups:
        whole = torch.cat([logits[group] for logits in slabs], dim=1)
        whole = F.interpolate(whole[None], size=frame.box.shape, mode="trilinear", align_corners=False)[0]
        first, second = whole.topk(2, dim=0).values
        maps[group] = np.zeros(volume.data.shape, dtype=np.uint8)
        frame.orientation.apply(maps[group])[frame.box.slices] = whole.argmax(0).numpy()
        frame.orientation.apply(near)[frame.box.slices] |= (first - second <= 1e-5 * whole.abs().max()).numpy()
    return join(maps, LABELS, predictor.shown), near


SMALL, LARGE = "FLAREmini/imagesTs/lits01_0000.nii.gz", "scans/crlm1004_ct.nii.gz"
ASKED = [*((SMALL, name) for name in MODELS), (LARGE, "thinned slices"), (LARGE, "blocks")]
if os.environ.get("FLARENET_FULL") == "1":
    found = [path for pattern in ("FLAREmini/imagesTs/*.nii.gz", "scans/*_ct.nii.gz") for path in DATA.glob(pattern)]
    ASKED = [(str(path.relative_to(DATA)), name) for path in sorted(found) for name in MODELS]


@pytest.mark.parametrize(("scan", "name"), ASKED)
def test_streamed_is_the_whole_at_once_voxel_for_voxel(scan, name):
    if not (DATA / scan).is_file():
        pytest.skip(f"no {scan} below {DATA}; set FLARENET_TEST_DATA to the folder that holds it")
    asked = predictor(name)
    labels = asked.predict(DATA / scan).labels
    expected, near = answer_of_the_whole(asked, read_image(DATA / scan))
    assert near.mean() < 0.001 and len(np.unique(expected)) >= 4
    np.testing.assert_array_equal(labels[~near], expected[~near])
