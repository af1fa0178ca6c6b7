import numpy as np
import pytest
import torch

from flarenet.inference.predict import Predictor
from flarenet.inference.views import FARTHEST, View, view
from flarenet.planning.plan import Augmentation
from flarenet.volume import Grid, Volume
from tests.inference.test_predict import model_folder


def cut(array, depth):
    """The image as logits, in slabs of `depth` slices."""
    for start in range(0, len(array), depth):
        yield start, {"g": torch.from_numpy(array[start : start + depth])[None]}


def as_seen(seen, image):
    planes, shape = seen.of(iter(image), image.shape)
    moved = np.stack(list(planes))
    assert moved.shape == shape
    return moved


@pytest.mark.parametrize("depth", [1, 3, 20])
@pytest.mark.parametrize("offset", [(0, 0, 0), (2, 1, 3), (7, 0, 0)])
def test_what_is_moved_comes_back_to_its_place(depth, offset):
    image = np.random.default_rng(0).random((6, 5, 4), dtype=np.float32)
    seen = View(offset=offset)
    moved = as_seen(seen, image)
    assert moved.shape == tuple(n + away for n, away in zip(image.shape, offset))
    slabs = list(seen.back(cut(moved, depth)))
    assert [start for start, _ in slabs] == np.cumsum([0, *[s["g"].shape[1] for _, s in slabs]])[:-1].tolist()
    assert np.array_equal(torch.cat([slab["g"][0] for _, slab in slabs]).numpy(), image)


def test_brightness_stays_in_range():
    image = np.full((1, 1, 3), [0.1, 0.5, 1.0], dtype=np.float32)
    assert as_seen(View(scale=1.5, shift=-0.25), image).tolist() == [[[0.0, 0.5, 1.0]]]


def test_view_0_is_the_scan_and_the_others_are_always_the_same():
    trained_to = Augmentation(scale=0.2, shift=0.1)
    assert view(0, trained_to) == View()
    views = [view(number, trained_to) for number in range(1, 9)]
    assert views == [view(number, trained_to) for number in range(1, 9)] and len(set(views)) == 8
    assert all(0.1 <= abs(v.scale - 1) <= 0.2 and abs(v.shift) <= 0.05 for v in views)
    assert all(0 < n <= FARTHEST for v in views for n in v.offset)
    assert [v.scale > 1 for v in views[:4]] == [True, False, True, False]
    assert view(1, Augmentation(scale=0, shift=0)).scale == 1


@pytest.mark.parametrize("patch", [(32, 32), (32, 32, 32)])
def test_a_moved_scan_is_answered_at_its_own_voxels(tmp_path, patch):
    """The network marks what is brighter than the mean of its window, wherever that lies."""
    predictor = Predictor(model_folder(tmp_path, dimensions=len(patch), patch=patch), device="cpu", precision="fp32")
    z, y, x = np.indices((14, 20, 18))
    body = (abs(z - 7) <= 4) & ((y - 9) ** 2 + (x - 8) ** 2 < 40)
    scan = Volume(np.where(body, 300, -1000).astype(np.int16), Grid(body.shape, np.eye(4)[[2, 1, 0, 3]]))
    views = [View(), View(offset=(8, 3, 5)), View(scale=0.9, offset=(1, 8, 8))]
    for maps in predictor.predict_views(scan, views):
        assert np.array_equal(maps["organ"], body)


def test_a_move_never_costs_another_window():
    far = View(offset=(8, 8, 8))
    # 20: twice 8, but 12 fill the window; 40: 1 + 1 windows reach 48; 60: 3 reach 64
    assert far.within((20, 40, 60), (32, 32, 32), 0.5).offset == (12, 8, 4)
    assert far.within((32, 30, 26), (32, 32, 32), 0.5).offset == (0, 2, 6)
    assert far.within((20, 30, 30), (32, 32), 0.5).offset == (0, 2, 2)  # slices are not moved along their axis
