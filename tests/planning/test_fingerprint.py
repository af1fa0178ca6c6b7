import nibabel
import numpy as np
import pytest

from flarenet.data.dataset import Case, Dataset
from flarenet.data.labels import LabelSet
from flarenet.errors import DatasetError
from flarenet.planning import fingerprint as module
from flarenet.planning.fingerprint import (
    BINS,
    Fingerprint,
    body_shape,
    fingerprint,
    hu_histogram,
    pack_histogram,
    unpack_histogram,
)
from flarenet.schema import load, save

LABELS = LabelSet(names=("background", "liver", "spleen"), groups={"organ": (1, 2)})


def write(path, array_zyx, spacing_zyx, *, codes=("R", "A", "S")):
    """A NIfTI file that holds the canonical `array_zyx`, stored with the axes `codes`."""
    affine = np.diag([*spacing_zyx[::-1], 1.0])
    image = nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), affine)
    turned = nibabel.orientations.axcodes2ornt(codes)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), turned))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Case a: liver at 50 and 60 HU, no spleen. Case b: spleen at 100 and 110 HU, stored turned. Case c: no label."""
    a, b, c = (np.full(shape, -1000, dtype=np.int16) for shape in ((2, 3, 4), (3, 2, 4), (4, 4, 4)))
    liver, spleen = np.zeros(a.shape, dtype=np.uint8), np.zeros(b.shape, dtype=np.uint8)
    a[0, 1, 1:3], liver[0, 1, 1:3] = (50, 60), 1
    b[0, 0, 0], b[2, 1, 0], b[1, 1, 1] = 100, 110, 900
    spleen[0, 0, 0] = spleen[2, 1, 0] = 2
    c[1:3, 1, 1] = 30
    images, masks = tmp_path / "imagesTr", tmp_path / "labelsTr"
    cases = (
        Case("c", write(images / "c_0000.nii.gz", c, (1, 1, 1)), None, frozenset()),
        Case(
            "a",
            write(images / "a_0000.nii.gz", a, (5, 1.5, 1)),
            write(masks / "a.nii.gz", liver, (5, 1.5, 1)),
            frozenset({1, 2}),
        ),
        Case(
            "b",
            write(images / "b_0000.nii.gz", b, (3, 2, 0.5), codes=("P", "S", "L")),
            write(masks / "b.nii.gz", spleen, (3, 2, 0.5), codes=("P", "S", "L")),
            frozenset({2}),
        ),
    )
    return Dataset("tiny", tmp_path, LABELS, cases, ())


def test_every_number_of_three_small_cases(dataset):
    found, failures = fingerprint(dataset)
    assert failures == []
    a, b, c = found.cases
    assert (a.name, a.shape, a.spacing_mm, a.body_shape) == ("a", (2, 3, 4), (5, 1.5, 1), (1, 1, 2))
    assert (b.name, b.shape, b.spacing_mm, b.body_shape) == ("b", (3, 2, 4), (3, 2, 0.5), (3, 2, 2))
    assert (c.name, c.shape, c.spacing_mm, c.body_shape) == ("c", (4, 4, 4), (1, 1, 1), (2, 1, 1))
    assert (a.min_hu, a.max_hu, b.max_hu) == (-1000, 60, 900)
    assert (a.voxels, b.voxels, c.voxels) == ({1: 2, 2: 0}, {2: 2}, {})
    assert (a.histogram_of, b.histogram_of, c.histogram_of) == ("foreground", "foreground", "body")
    assert [(co.pattern, co.cases, co.floor_hu, co.ceiling_hu) for co in found.cohorts] == [
        ((1, 2), 1, -1000, 60),
        ((2,), 1, -1000, 900),
        ((), 1, -1000, 30),
    ]
    assert found.spacing_mm.median == (3, 1.5, 1) and found.shape.largest == (4, 4, 4)
    assert found.body_mm.median == (5, 1.5, 1)  # a 5 x 1.5 x 2, b 9 x 4 x 1, c 2 x 1 x 1
    assert any("a: looked for and absent: spleen" in sentence for sentence in found.suspicious)


def test_foreground_statistics_are_those_of_the_drawn_voxels(dataset):
    found = fingerprint(dataset)[0].intensities  # 50, 60, 100, 110
    assert (found.source, found.voxels, found.mean_hu) == ("foreground", 4, 80)
    assert found.sd_hu == pytest.approx(25.4951, abs=1e-4)  # the root of (900 + 400 + 400 + 900) / 4
    assert (found.percentile_00_5_hu, found.median_hu, found.percentile_99_5_hu) == (50, 60, 110)


def test_without_any_label_the_inside_of_the_body_stands_in(dataset):
    only = Dataset("tiny", dataset.folder, LABELS, dataset.cases[:1], ())
    found = fingerprint(only)[0]
    assert (found.intensities.source, found.intensities.voxels, found.intensities.mean_hu) == ("body", 2, 30)
    assert found.never_annotated == (1, 2)


def test_the_number_of_workers_and_the_order_of_cases_change_nothing(dataset):
    turned = Dataset("tiny", dataset.folder, LABELS, dataset.cases[::-1], ())
    one, two = fingerprint(dataset, workers=1)[0], fingerprint(turned, workers=2)[0]
    assert one == two and one.hash == two.hash


def test_an_unchanged_case_is_not_measured_again(dataset, tmp_path, monkeypatch):
    cache = tmp_path / "fingerprint.json"
    first = fingerprint(dataset)[0]
    save(first, cache)
    assert load(Fingerprint, cache, DatasetError) == first
    measured = []
    real = module.measure_case
    monkeypatch.setattr(module, "measure_case", lambda case, *a, **k: measured.append(case.name) or real(case, *a, **k))
    assert fingerprint(dataset, cached=cache)[0] == first
    assert measured == []
    brighter = np.full((4, 4, 4), -1000, dtype=np.int16)
    brighter[1:3, 1, 1] = 31
    write(dataset.cases[0].image, brighter, (1, 1, 1))
    assert fingerprint(dataset, cached=cache)[0].cases[2].max_hu == 31
    assert measured == ["c"]


def test_a_damaged_cache_counts_as_none(dataset, tmp_path):
    cache = tmp_path / "fingerprint.json"
    cache.write_text('{"version": 0}')
    assert fingerprint(dataset, cached=cache)[0] == fingerprint(dataset)[0]


def test_a_broken_case_is_named_and_the_others_go_on(dataset):
    image = dataset.cases[1].image
    image.write_bytes(image.read_bytes()[:-20])
    found, failures = fingerprint(dataset)
    assert [name for name, _ in failures] == ["a"]
    assert "a_0000.nii.gz" in str(failures[0][1])
    assert [case.name for case in found.cases] == ["b", "c"]


def test_a_set_of_broken_cases_only_is_an_error_that_names_them(dataset):
    for case in dataset.cases:
        case.image.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"(?s)3 broken cases.*c_0000.*a_0000.*b_0000"):
        fingerprint(dataset)


def test_the_same_image_under_two_names_is_suspicious(dataset):
    c = dataset.cases[0]
    twice = Dataset("tiny", dataset.folder, LABELS, (c, Case("d", c.image, None, frozenset())), ())
    assert "d: the same image as c" in fingerprint(twice)[0].suspicious


def test_histogram_has_a_bin_per_hu_and_the_outer_bins_take_the_rest():
    counts = hu_histogram(np.array([-5000.0, -2048.4, 0.4, 0.6, 2047, 9000]))
    assert counts.sum() == 6
    assert (counts[0], counts[2048], counts[2049], counts[BINS - 1]) == (2, 1, 1, 2)
    assert (unpack_histogram(pack_histogram(counts)) == counts).all()


@pytest.mark.parametrize("text", ["", "no base64 !", pack_histogram(np.zeros(7))])
def test_a_text_that_is_no_histogram_is_refused(text):
    with pytest.raises(DatasetError):
        unpack_histogram(text)


def test_noise_outside_does_not_count_as_body():
    image = np.full((3, 200, 200), -1000)
    image[:, 50:100, 20:60] = 0
    image[0, 0, 0] = image[2, 199, 199] = 300  # one voxel in 600 of its plane
    assert body_shape(image) == (3, 50, 40)
    assert body_shape(np.full((2, 3, 4), -1000)) == (2, 3, 4)
