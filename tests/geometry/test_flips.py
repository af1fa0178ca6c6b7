"""A patient in a mirror: labels with a side come back to their own side, and training shows none."""

import numpy as np
import pytest
import torch

from flarenet.data.labels import LabelSet
from flarenet.errors import PlanError
from flarenet.inference.engines.engine import TorchEngine
from flarenet.inference.flips import with_mirrored
from flarenet.inference.windows import slabs
from flarenet.planning.fusion import Fusion, check_fusion
from flarenet.planning.plan import Augmentation
from flarenet.training.augment import augment

LABELS = LabelSet(
    names=("background", "liver", "right kidney", "left kidney", "tumor"), groups={"organ": (1, 2, 3), "cancer": (4,)}
)
LIVER, KIDNEY, TUMOR = 0.9, 0.6, 0.3


class Anatomist(torch.nn.Module):
    """Knows organs by their brightness, and kidneys by the side of the image on which they lie."""

    def forward(self, image):
        right = torch.arange(image.shape[-1]) >= image.shape[-1] / 2  # in RAS order x grows to the right
        kidney = (image - KIDNEY).abs() < 0.1
        organ = [torch.zeros_like(kidney), image > LIVER - 0.1, kidney & right, kidney & ~right]
        tumor = [torch.zeros_like(kidney), (image - TUMOR).abs() < 0.1]
        return {"organ": 4 * torch.cat(organ, dim=1).float(), "cancer": 4 * torch.cat(tumor, dim=1).float()}


def patient():
    """Two kidneys of different sizes, a liver at the right, a tumor at the left: nothing is symmetric."""
    image = np.zeros((6, 24, 40), dtype=np.float32)
    image[1:5, 4:9, 30:36] = KIDNEY
    image[2:4, 12:15, 3:8] = KIDNEY
    image[0:3, 12:22, 22:38] = LIVER
    image[4:6, 2:5, 9:12] = TUMOR
    return image


def answer(image, flips, patch):
    engine = TorchEngine(Anatomist(), dimensions=len(patch))

    def run(seen):
        return slabs(engine, iter(seen), seen.shape, patch=patch, overlap=0.5, batch_size=3)

    found = run(image)
    if flips:
        found = with_mirrored(found, run(image[..., ::-1]), LABELS)
    maps = [{group: value.argmax(0).numpy() for group, value in logits.items()} for _, logits in found]
    return {group: np.concatenate([part[group] for part in maps]) for group in LABELS.groups}


def test_no_label_changes_sides():
    image = patient()
    plain, flipped = (answer(image, flips, (24, 40)) for flips in (False, True))
    assert np.bincount(plain["organ"].ravel()).tolist()[1:] == [3 * 10 * 16, 4 * 5 * 6, 2 * 3 * 5]
    for group in LABELS.groups:
        np.testing.assert_array_equal(flipped[group], plain[group])


def test_probabilities_are_the_mean_of_both_views():
    draw = torch.Generator().manual_seed(0)
    one, other = ({"organ": torch.randn((4, 2, 3, 5), generator=draw)} for _ in range(2))
    ((start, both),) = with_mirrored([(0, one)], [(0, other)], LABELS)
    expected = (one["organ"].softmax(0) + other["organ"].flip(-1).softmax(0)[[0, 1, 3, 2]]) / 2
    assert start == 0
    torch.testing.assert_close(both["organ"].softmax(0), expected)


def test_a_table_with_half_a_pair_cannot_be_flipped():
    half = LabelSet(names=("background", "left lung", "liver"), groups={"organ": (1, 2)})
    check_fusion(Fusion(), half, "plan")
    with pytest.raises(PlanError, match="'right lung' in the same group"):
        check_fusion(Fusion(flips=True), half, "plan")


def test_training_never_mirrors():
    image = patient()
    maps = {"organ": answer(image, False, (24, 40))["organ"].astype(np.uint8)}
    settings = Augmentation(probability=1.0, rotation_deg=30, zoom=0.2)
    for seed in range(30):
        _, changed = augment(image[None], maps, settings, [seed])
        right, left = (np.argwhere(changed["organ"] == label)[:, 2].mean() for label in (2, 3))
        assert right > left
