import time
from itertools import combinations, permutations, product

import numpy as np
import pytest
from matplotlib.image import imread

from flarenet.data.labels import LabelSet
from flarenet.evaluation.pictures import Cut, Row, choose_cuts, colour_of, montage, overlay, richest, sheet, window_of
from flarenet.volume import Grid, Orientation, Volume

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})
CANONICAL_AFFINE = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])


def _body_and_spleen() -> tuple[Volume, Volume]:
    """Canonical: a body, and one label at the patient's left, front and top."""
    image = np.full((20, 24, 28), 0, dtype=np.int16)
    label_map = np.zeros(image.shape, dtype=np.uint8)
    label_map[14:19, 16:23, 2:8] = 2  # z up, y to the front, x to the right: small x is left
    grid = Grid(image.shape, CANONICAL_AFFINE)
    return Volume(image, grid), Volume(label_map, grid)


def _stored(volume: Volume, orientation: Orientation) -> Volume:
    """The volume in another storage order of the same space."""
    return Volume(orientation.apply(volume.data), orientation.apply_to_grid(volume.grid))


def _coloured(path) -> np.ndarray:
    """Where the picture is green, as label 2 is: more green than red, which neither grey nor the yellow marks are."""
    rgb = imread(path)[..., :3]
    return rgb[..., 1] > rgb[..., 0] + 0.05


def test_names_are_written_as_they_are(tmp_path):
    """Between two $ matplotlib would look for a formula, which these are not."""
    image, label_map = _body_and_spleen()
    labels = LABELS.model_copy(update={"names": ("background", "liver", "$_$ spleen", "tumor")})
    overlay(image, {"$_$ truth": label_map}, labels=labels, path=tmp_path / "a.png", caption="scan$_$1")
    tile = Row(image.data[15], (label_map.data[15],), 1.0, "note$_$1")
    for figure in (
        sheet([tile], ["$_$"], caption="scan$_$1", labels=labels),
        montage([tile], 1, caption="scan$_$1", labels=labels),
    ):
        figure.savefig(tmp_path / "b.png")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (False, True, True)])
def test_left_is_on_the_right_and_front_and_head_are_up_in_any_orientation(tmp_path, axes, flips):
    image, label_map = (_stored(volume, Orientation(axes, flips)) for volume in _body_and_spleen())
    overlay(image, {"truth": label_map}, labels=LABELS, path=tmp_path / "a.png", caption="a")
    coloured = _coloured(tmp_path / "a.png")
    height, width = coloured.shape
    rows, columns = np.nonzero(coloured[: int(height * 0.88)])  # without the legend
    assert columns.min() > 0.75 * width  # the right half of the right panel
    assert rows.size > 1000
    # two panels of 20 x 2 and 24 x 1.5 mm height: in each the label begins in the upper half
    bands = np.flatnonzero(np.diff(np.concatenate([[0], coloured[: int(height * 0.88)].any(axis=1), [0]])))
    assert len(bands) == 4
    panel = (height * 0.88 - bands[0]) / 2
    assert bands[1] - bands[0] < panel / 2 and bands[3] - bands[2] < panel / 2


def test_every_orientation_gives_the_same_picture(tmp_path):
    pictures = []
    for axes, flips in list(product(permutations(range(3)), product((False, True), repeat=3)))[::9]:
        image, label_map = (_stored(volume, Orientation(axes, flips)) for volume in _body_and_spleen())
        overlay(image, {"truth": label_map}, labels=LABELS, path=tmp_path / "b.png", caption="b")
        pictures.append(imread(tmp_path / "b.png"))
    assert len(pictures) == 6
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)


def test_many_labels_take_no_longer_than_few():
    names = tuple(map(str, range(255)))
    few, many = (LabelSet(names=names[: n + 1], groups={"organ": tuple(range(1, n + 1))}) for n in (2, 254))
    label_map = np.random.default_rng(0).integers(0, 255, (32, 64, 64), dtype=np.uint8)
    label_map[20] = 1 + np.arange(64 * 64).reshape(64, 64) % 254  # every label, and no background
    assert richest(label_map, many, axis=0) == 20

    def seconds(labels):
        begin = time.perf_counter()
        richest(label_map, labels, axis=1)
        return time.perf_counter() - begin

    assert min(seconds(many) for _ in range(3)) < 10 * min(seconds(few) for _ in range(3))


def test_cuts_show_most_labels_most_tumor_and_a_coronal():
    label_map = np.zeros((10, 12, 14), dtype=np.uint8)
    label_map[2, 3:5, 3:5], label_map[2, 7, 7] = 1, 2  # two labels in slice 2
    label_map[6, 3:9, 3:9] = 3
    assert choose_cuts(label_map, LABELS) == [Cut(0, 2), Cut(0, 6), Cut(1, 4)]
    label_map[6] = 0
    assert choose_cuts(label_map, LABELS)[:1] == [Cut(0, 2)] and len(choose_cuts(label_map, LABELS)) == 2


def test_an_empty_map_is_drawn_in_the_middle(tmp_path):
    image, label_map = _body_and_spleen()
    empty = Volume(np.zeros_like(label_map.data), label_map.grid)
    assert choose_cuts(empty.data, LABELS) == [Cut(0, 10), Cut(1, 12)]
    overlay(image, {"truth": empty}, labels=LABELS, path=tmp_path / "c.png", caption="c")
    assert not _coloured(tmp_path / "c.png").any()


def test_what_is_no_ct_is_drawn_over_its_own_range(tmp_path):
    image, label_map = _body_and_spleen()
    values = np.linspace(0, 4000, image.data.size, dtype=np.float32)  # 94 of 100 above the window of the abdomen
    scan = Volume(values.reshape(image.data.shape), image.grid)

    def white(is_ct):
        overlay(scan, {"truth": label_map}, labels=LABELS, path=tmp_path / "m.png", caption="", is_ct=is_ct)
        rgb = imread(tmp_path / "m.png")[..., :3]
        return (rgb > 0.99).all(axis=-1).mean()

    assert white(True) > 0.5 and white(False) < 0.1


def test_each_row_has_a_window_of_its_own():
    plane, layer = np.arange(12.0).reshape(3, 4), np.zeros((3, 4), np.uint8)
    rows = [Row(plane * bright, (layer,), window=window_of(plane * bright, is_ct=False)) for bright in (1, 100)]
    figure = sheet(rows, ("truth",), caption="", labels=LABELS)
    windows = [axes.images[0].get_clim() for axes in figure.axes]
    assert np.allclose(windows, [(0, 11 - 0.055)] * 2 + [(0, 1100 - 5.5)] * 2)


def test_the_only_sagittal_slice_of_a_scan_makes_no_endless_picture():
    """Its slice across the body is one voxel wide and 512 high, of 0.8 x 3 mm: 137 times as high as wide."""
    tile = Row(np.zeros((512, 1)), (np.zeros((512, 1), np.uint8),), aspect=0.8 / 3)
    for figure in (
        sheet([tile], ["truth"], caption="a", labels=LABELS),
        montage([tile], 1, caption="a", labels=LABELS),
    ):
        # head 0.75, panel 6 x 2.8, gap 0.06, foot 2 x 0.2
        assert figure.get_size_inches()[1] == pytest.approx(18.01)
        figure.canvas.draw()
        shown = figure.axes[0].get_window_extent()
        assert shown.height / shown.width == pytest.approx(512 * 0.8 / 3) and shown.height == pytest.approx(16.8 * 110)


def test_a_map_of_another_shape_is_refused(tmp_path):
    image, label_map = _body_and_spleen()
    smaller = Volume(label_map.data[1:], Grid(label_map.data[1:].shape, label_map.grid.affine))
    with pytest.raises(ValueError, match="truth"):
        overlay(image, {"truth": smaller}, labels=LABELS, path=tmp_path / "d.png", caption="d")
    assert not (tmp_path / "d.png").exists()


def test_colours_are_fixed_and_apart():
    colours = [np.array(colour_of(value)) for value in range(1, 16)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > 0.25
    assert len({colour_of(value) for value in range(1, 255)}) == 254
