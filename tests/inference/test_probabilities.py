"""Probabilities slice by slice into NIfTI files that others read."""

import gzip
import json
from functools import partial

import nibabel
import numpy as np
import pytest
import SimpleITK

from flarenet.data.labels import LabelSet
from flarenet.data.nifti import channels
from flarenet.errors import StorageError
from flarenet.inference.outputs.probabilities import Probabilities
from flarenet.inference.outputs.slices import FinishedSlice, opened
from flarenet.volume import Orientation, orientation_of
from flarenet.whole import remove_leftovers_of, together
from tests.full_disk import longest_file
from tests.inference.opened import opened_file

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})
SHAPE = (5, 6, 7)


def scan(path, orientation):
    """A scan whose turned array has SHAPE, stored in another order."""
    stored = orientation.undo(np.zeros(SHAPE, np.int16))
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, size) in enumerate(zip((2, 1, 0), (5.0, 2.0, 1.5))):
        stored_axis = orientation.axes[axis]
        affine[world, 2 - stored_axis] = -size if orientation.flips[axis] else size
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored.T), affine), path)
    made = opened_file(path)
    assert orientation_of(made.grid) == orientation
    return made


def shares(seed):
    rng = np.random.default_rng(seed)
    made = {}
    for group, values in LABELS.groups.items():
        drawn = rng.random((1 + len(values), *SHAPE)).astype(np.float32)
        made[group] = drawn / drawn.sum(0)
    return made


def give(sink, of, *, descending=False):
    for z in range(SHAPE[0])[:: -1 if descending else 1]:
        planes = {group: value[:, z] for group, value in of.items()}
        sink.take(FinishedSlice(z, np.zeros(SHAPE[1:], np.uint8), probabilities=planes))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    "orientation",
    [
        Orientation(),
        Orientation(flips=(False, True, True)),
        Orientation(flips=(True, False, True)),
        Orientation(axes=(0, 2, 1)),
        Orientation(axes=(1, 0, 2), flips=(False, True, False)),
    ],
)
def test_others_read_what_was_given(tmp_path, orientation, descending):
    given = scan(tmp_path / "a_0000.nii.gz", orientation)
    of = shares(1)
    output = Probabilities(LABELS, ("organ", "cancer"))
    sink = output(tmp_path / "out" / "a.nii.gz", given)
    give(sink, of, descending=descending)
    sink.finish()
    organ, cancer = output.files(tmp_path / "out" / "a.nii.gz")
    assert [organ.name, cancer.name] == ["a_organ.nii.gz", "a_cancer.nii.gz"]
    assert sorted(path.name for path in organ.parent.iterdir()) == ["a_cancer.nii.gz", "a_organ.nii.gz"]
    image, like = nibabel.load(organ), nibabel.load(tmp_path / "a_0000.nii.gz")
    assert image.shape == (*like.shape, 3) and image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.affine, like.affine)
    read = image.get_fdata().T  # [channel, z, y, x] as stored
    turned = np.stack([orientation.apply(channel) for channel in read])
    assert np.abs(turned - of["organ"]).max() <= 1 / 510 + 1e-6
    assert json.loads(image.header.extensions[0].get_content().decode().rstrip("\0")) == [
        "background",
        "liver",
        "spleen",
    ]
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(cancer)))
    assert np.abs(itk - nibabel.load(cancer).get_fdata().T).max() < 1e-6


def test_the_same_probabilities_give_the_same_bytes_and_an_error_no_file(tmp_path):
    given = scan(tmp_path / "a.nii.gz", Orientation())
    output = Probabilities(LABELS, ("organ", "cancer"))
    content = []
    for _ in range(2):
        sink = output(tmp_path / "out" / "a.nii.gz", given)
        give(sink, shares(2))
        sink.finish()
        content.append([path.read_bytes() for path in output.files(tmp_path / "out" / "a.nii.gz")])
    assert content[0] == content[1]
    for path in output.files(tmp_path / "out" / "a.nii.gz"):
        path.unlink()
    sink = output(tmp_path / "out" / "a.nii.gz", given)
    sink.take(FinishedSlice(0, None, probabilities={group: value[:, 0] for group, value in shares(2).items()}))
    sink.abandon()
    assert list((tmp_path / "out" / "probabilities").iterdir()) == []


def test_a_disk_that_fills_at_the_end_leaves_the_earlier_file_of_every_group(tmp_path):
    given, place = scan(tmp_path / "a.nii.gz", Orientation()), tmp_path / "out" / "a.nii.gz"

    def write(of):
        output = Probabilities(LABELS, tuple(of))
        with opened([partial(output, place, given)]) as (sink,):
            give(sink, of)
        return {path.name: path.read_bytes() for path in place.parent.joinpath("probabilities").iterdir()}

    before = write(shares(1))
    wide = {"organ": np.zeros((3, *SHAPE), np.float32), "cancer": shares(2)["cancer"]}  # the first group packs well
    with pytest.raises(StorageError, match="a_cancer.nii.gz"), longest_file(400):
        write(wide)
    after = {path.name: path.read_bytes() for path in place.parent.joinpath("probabilities").iterdir()}
    assert after == before
    with longest_file(400):
        after = write({"organ": wide["organ"]})
    assert after["a_organ.nii.gz"] != before["a_organ.nii.gz"] and after["a_cancer.nii.gz"] == before["a_cancer.nii.gz"]


@pytest.mark.parametrize("case", ["a", "a" * 230])
def test_what_a_killed_run_leaves_of_every_channel_is_found_by_the_name_of_the_file(tmp_path, case):
    given = scan(tmp_path / "a.nii.gz", Orientation())
    output, answer = Probabilities(LABELS, ("organ", "cancer")), tmp_path / "out" / f"{case}.nii.gz"
    sink = output(answer, given)
    assert len(list((tmp_path / "out" / "probabilities").iterdir())) == 3 + 2
    remove_leftovers_of(output.files(answer.with_name("b.nii.gz")))
    assert len(list((tmp_path / "out" / "probabilities").iterdir())) == 3 + 2
    remove_leftovers_of(output.files(answer))
    assert list((tmp_path / "out" / "probabilities").iterdir()) == []
    sink.abandon()


def test_too_few_slices_are_no_file(tmp_path):
    given = scan(tmp_path / "a.nii.gz", Orientation())
    sink = Probabilities(LABELS, ("cancer",))(tmp_path / "out" / "a.nii.gz", given)
    sink.take(FinishedSlice(0, None, probabilities={"cancer": shares(0)["cancer"][:, 0]}))
    with pytest.raises(ValueError, match="1 slices of 5"):
        sink.finish()
    sink.abandon()
    assert list((tmp_path / "out" / "probabilities").iterdir()) == []


def test_a_disk_that_changes_bytes_is_noticed_and_no_group_has_a_file(tmp_path, monkeypatch):
    given = scan(tmp_path / "a.nii.gz", Orientation())
    sink = Probabilities(LABELS, ("organ", "cancer"))(tmp_path / "out" / "a.nii.gz", given)
    give(sink, shares(0))
    order = sink._orders["cancer"]
    assert order._kept is None and len(list((tmp_path / "out" / "probabilities").iterdir())) == 3 + 2
    real, append = gzip.compress(bytes(np.prod(SHAPE))), channels._append

    def other(target, files):
        if "organ" in target.name:
            return append(target, files)
        with open(target, "ab") as end:
            end.write(real)

    monkeypatch.setattr(channels, "_append", other)
    with pytest.raises(StorageError, match="when read back"), together():
        sink.finish()
    sink.abandon()
    assert list((tmp_path / "out" / "probabilities").iterdir()) == []
