"""What the groups say of a slice, by rule, with numbers that can be checked by hand."""

import numpy as np
import pytest
import torch

from flarenet.data.labels import LabelSet, join
from flarenet.inference.fuse import decided, most_probable, slice_maps
from flarenet.inference.upsample import NetworkSlice
from flarenet.planning.fusion import Fusion

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


def pixels(*rows):
    """Rows of probabilities, one for each pixel, as [1 + n, 1, pixels]."""
    return torch.tensor(rows).T.unsqueeze(1)


PROBABILITIES = {
    # liver; liver or spleen, hard to tell; liver under a sure tumor; nothing; nothing, with a doubtful tumor
    "organ": pixels([0.1, 0.9, 0.0], [0.0, 0.5, 0.5], [0.1, 0.6, 0.3], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]),
    "cancer": pixels([0.6, 0.4], [0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4]),
}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "rule, expected",
    [
        ("overlay", [1, 1, 3, 0, 0]),
        # 0.6 * 0.9 > 0.4; 0.6 * 0.5 < 0.4; 0.2 * 0.6 < 0.8; 0.9 * 0.9 > 0.1; 0.6 * 1.0 > 0.4
        ("probability", [1, 3, 3, 0, 0]),
    ],
)
def test_the_answer_by_rule(rule, expected, times):
    scaled = {group: times * value for group, value in PROBABILITIES.items()}
    maps = decided(scaled, fusion=Fusion(rule=rule), labels=LABELS)
    assert join(maps, LABELS).ravel().tolist() == expected
    assert maps["organ"].ravel().tolist() == [1, 1, 1, 0, 0]  # what lies beneath a tumor is kept


def test_where_background_is_as_probable_it_stays():
    maps = most_probable({"organ": pixels([0.5, 0.25, 0.25]), "cancer": pixels([0.5, 0.5])})
    assert maps["cancer"].item() == 1  # 0.5 against 0.5 * 0.5
    maps = most_probable({"organ": pixels([1.0, 0.0, 0.0]), "cancer": pixels([0.5, 0.5])})
    assert maps["cancer"].item() == 0 and maps["organ"].item() == 0


def test_the_answer_is_the_most_probable_of_all_labels():
    draw = torch.Generator().manual_seed(0)
    organ = torch.rand((4, 20, 30), generator=draw).softmax(0)
    early = torch.rand((3, 20, 30), generator=draw).mul(3).softmax(0)
    late = torch.rand((2, 20, 30), generator=draw).softmax(0)
    maps = most_probable({"organ": organ, "early": early, "late": late})
    joint = torch.cat([organ * early[0] * late[0], early[1:] * late[0], late[1:]])  # background, 3, 2 and 1 labels
    table = LabelSet(names=tuple("bacdefg"), groups={"organ": (1, 2, 3), "early": (4, 5), "late": (6,)})
    np.testing.assert_allclose(joint.sum(0), 1, atol=1e-6)
    np.testing.assert_array_equal(join(maps, table), joint.argmax(0))


def test_slices_are_fused_at_the_scan_s_resolution():
    slices = [NetworkSlice({g: value.clamp(min=1e-6).log() for g, value in PROBABILITIES.items()}, (2, 5))] * 2
    for rule, expected in (("overlay", [1, 1, 3, 0, 0]), ("probability", [1, 3, 3, 0, 0])):
        maps = slice_maps(*slices, 0, fusion=Fusion(rule=rule), labels=LABELS)
        assert join(maps, LABELS).tolist() == [expected, expected]
