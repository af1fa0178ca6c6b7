"""NIfTI: the same numbers as nibabel where nibabel is right, and a clear refusal where a file cannot be trusted."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flarenet.data.labels import HIDDEN
from flarenet.data.nifti import inspect_labels, read_grid, read_image, read_labels, write_labels
from flarenet.data.nifti import write as nifti
from flarenet.data.reading import STRICT, Reading
from flarenet.errors import DatasetError, GeometryError, StorageError
from flarenet.volume import Grid
from tests.bad_inputs.case_set import geometry_of


def numbers(dtype, shape=(3, 4, 5)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def flip_byte(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def patch_header(path, **fields):
    """Change header fields of an uncompressed NIfTI-1 file."""
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


# --- reading: against nibabel ---


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_reads_what_nibabel_wrote(tmp_path, save_nifti, kind, ending):
    path = save_nifti(tmp_path / f"x{ending}", numbers(np.int16), kind=kind)
    volume, reference = read_image(path), nibabel.load(path)
    assert volume.data.dtype == np.int16
    assert volume.data.shape == (5, 4, 3)
    np.testing.assert_array_equal(volume.data, np.asarray(reference.dataobj).T)
    np.testing.assert_allclose(volume.grid.affine @ [2, 3, 1, 1], reference.affine @ [1, 3, 2, 1], atol=1e-6)
    assert volume.grid.spacing_mm == (5.0, 1.5, 2.0)
    assert read_grid(path).is_near(volume.grid, 0)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(np.uint8, np.int16), (np.int8, np.int16), (np.uint16, np.int16), (np.int32, np.int16), (np.uint32, np.int16)]
    + [(np.int64, np.int16), (np.float32, np.float32), (np.float64, np.float32)],
)
def test_whole_numbers_that_fit_become_int16(tmp_path, save_nifti, stored, expected):
    array = numbers(stored)
    image = nibabel.Nifti1Image(array, np.diag([1, 1, 1, 1]), dtype=stored)
    nibabel.save(image, tmp_path / "x.nii.gz")
    volume = read_image(tmp_path / "x.nii.gz")
    assert volume.data.dtype == expected
    np.testing.assert_array_equal(volume.data, array.T)


def test_whole_numbers_that_do_not_fit_become_float32(tmp_path, save_nifti):
    array = numbers(np.uint16)
    array[0, 0, 0] = 40000
    volume = read_image(save_nifti(tmp_path / "x.nii", array))
    assert volume.data.dtype == np.float32
    assert volume.data[0, 0, 0] == 40000


def test_a_number_above_int16_in_any_part_of_a_file_says_that_its_largest_are_not_wrapped(tmp_path, save_nifti):
    """A slice is a part, as files are read 4 MiB at a time; 6144 of 4 194 304 voxels are more than 0.1 %."""
    array = np.full((2048, 1024, 2), 1000, np.uint16)
    array[:, :3, 1] = 65000
    with pytest.raises(DatasetError, match="in 6144 voxels, and none from 32768 to 61440"):
        read_image(save_nifti(tmp_path / "x.nii", array))
    array[0, 0, 0] = 40000
    data = read_image(save_nifti(tmp_path / "x.nii", array)).data
    assert data[0, 0, 0] == 40000 and int((data == 65000).sum()) == 6144


def test_scaling_is_applied(tmp_path, save_nifti):
    path = save_nifti(tmp_path / "x.nii", numbers(np.int16))
    patch_header(path, scl_slope=0.5, scl_inter=-1024)
    volume = read_image(path)
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, numbers(np.int16).T * 0.5 - 1024)


@pytest.mark.parametrize(("slope", "intercept"), [(0, 0), (1, 0)])
def test_scaling_that_says_nothing_leaves_int16(tmp_path, save_nifti, slope, intercept):
    path = patch_header(save_nifti(tmp_path / "x.nii", numbers(np.int16)), scl_slope=slope, scl_inter=intercept)
    volume = read_image(path)
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, numbers(np.int16).T)


def test_extensions_are_skipped(tmp_path):
    image = nibabel.Nifti1Image(numbers(np.int16), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"PATIENT " * 100))
    nibabel.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii.gz").data, numbers(np.int16).T)


def test_a_handedness_of_zero_counts_as_one(tmp_path, save_nifti):
    """The first number of pixdim; some writers leave it 0."""
    right_handed = np.diag([2.0, 3, 4, 1])
    path = save_nifti(tmp_path / "x.nii", numbers(np.int16), right_handed)
    patch_header(path, sform_code=0, pixdim=[0, 2, 3, 4, 0, 0, 0, 0])
    np.testing.assert_allclose(read_grid(path).affine, right_handed[:, [2, 1, 0, 3]])


def test_the_spacing_that_a_header_states(tmp_path, save_nifti, labels):
    """pixdim to its last digit, in mm; where the person trusts an sform against it, the sform's."""

    def spacing_mm(reading=STRICT):
        return inspect_labels(path, labels, reading=reading).spacing_mm

    path = save_nifti(tmp_path / "x.nii", numbers(np.int16) % 4)
    assert spacing_mm() == read_grid(path).spacing_mm == (5.0, 1.5, 2.0)
    patch_header(path, qform_code=0, pixdim=[1, 2, 1.5, -5.0009765625, 0, 0, 0, 0])
    assert spacing_mm() == (5.0009765625, 1.5, 2.0) and read_grid(path).spacing_mm == (5.0, 1.5, 2.0)
    patch_header(path, pixdim=[1, 2, 1.5, 6, 0, 0, 0, 0])
    assert spacing_mm(Reading(affine="sform")) == (5.0, 1.5, 2.0)


# --- reading: what cannot be trusted ---


def test_the_last_bytes_of_a_gzip_file_count(tmp_path, save_nifti):
    """The trailer holds CRC (4 bytes) and length (4 bytes): all voxels come before it."""
    path = save_nifti(tmp_path / "x.nii.gz", numbers(np.int16))
    whole = path.read_bytes()
    for change in (lambda: flip_byte(path, -8), lambda: flip_byte(path, -1), lambda: path.write_bytes(whole[:-4])):
        path.write_bytes(whole)
        read_image(path)
        change()
        with pytest.raises(DatasetError, match="damaged gzip"):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b'{"message": "Not Found"}', "JSON"),
        (b"PK\x03\x04" + bytes(400), "a zip archive"),
        (b"\x89PNG\r\n" + bytes(400), "a PNG picture"),
        (bytes(128) + b"DICM" + bytes(400), "a DICOM file"),
        (b"NRRD0004\n", "an NRRD file"),
        (bytes(5000), "zeros only"),
        (b"just some words", "text"),
        (b"\x93\xff\x81\x07" * 200, "bytes that begin 93 ff"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_is_no_image_is_called_what_it_is(tmp_path, content, words, zipped):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(content) if zipped else content)
    for read in (read_image, read_grid):
        with pytest.raises(DatasetError) as caught:
            read(path)
        assert words in caught.value.found
        assert "NIfTI" in caught.value.expected


def test_no_file(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_image(tmp_path / "none.nii.gz")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"vox_offset": np.nan}, DatasetError, "vox_offset"),
        ({"vox_offset": np.inf}, DatasetError, "vox_offset"),
        ({"quatern_b": 3, "quatern_c": 3}, GeometryError, "qform"),
    ],
)
def test_a_header_that_cannot_be_trusted_is_refused(tmp_path, save_nifti, fields, error, words):
    path = patch_header(save_nifti(tmp_path / "x.nii", numbers(np.int16)), **fields)
    assert path.stat().st_size == 352 + 3 * 4 * 5 * 2
    with pytest.raises(error) as caught:
        read_image(path)
    assert words in str(caught.value)
    assert str(path) in caught.value.thing


def test_a_header_that_promises_more_than_gzip_can_hold_is_refused_before_memory_is_taken(tmp_path, save_nifti):
    path = patch_header(save_nifti(tmp_path / "x.nii", numbers(np.int16)), dim=[3, 1500, 1500, 1500, 1, 1, 1, 1])
    zipped = tmp_path / "x.nii.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DatasetError, match="a file of at most"):
        read_image(zipped)


# --- labels ---


def test_labels_become_uint8(tmp_path, save_nifti, labels):
    for dtype in (np.uint8, np.int16, np.int32, np.float32, np.float64):
        drawn = numbers(dtype) % 4
        volume = read_labels(save_nifti(tmp_path / "x.nii.gz", drawn.astype(dtype)), labels)
        assert volume.data.dtype == np.uint8
        np.testing.assert_array_equal(volume.data, drawn.T)


def test_labels_that_a_file_numbers_otherwise_get_the_values_of_the_table(tmp_path, save_nifti, labels):
    drawn = np.zeros((3, 4, 5), np.int16)
    drawn[0, 0, 0], drawn[1, 0, 0], drawn[2, 0, 0] = 6, 300, 4
    path = save_nifti(tmp_path / "x.nii.gz", drawn)
    volume = read_labels(path, labels, values={6: 1, 300: 3, 4: 0})
    assert volume.data.dtype == np.uint8 and np.unique(volume.data).tolist() == [0, 1, 3]
    assert (volume.data[0, 0, 0], volume.data[0, 0, 1], volume.data[0, 0, 2]) == (1, 3, 0)
    with pytest.raises(DatasetError) as caught:
        read_labels(path, labels, values={6: 1, 300: 3})
    assert caught.value.found == "4 (1 voxel)" and "[0, 6, 300]" in caught.value.expected


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_voxels_that_nobody_annotated_are_hidden_and_other_values_refused(tmp_path, save_nifti, labels, dtype):
    """255 stands in a file for whatever `values` say, as any number does."""
    drawn = np.zeros((3, 4, 5), dtype)
    drawn[0, 0, 0], drawn[1, 0, 0], drawn[2, 0, 0] = 3, 9, 255
    path = save_nifti(tmp_path / "x.nii.gz", drawn)
    for values in ({3: 3, 9: HIDDEN, 255: HIDDEN}, {3: 3, 9: HIDDEN, 255: 1}):
        volume = read_labels(path, labels, values=values)
        assert volume.data.dtype == np.uint8
        assert volume.data[0, 0].tolist() == [3, HIDDEN, values[255]]
        assert np.count_nonzero(volume.data) == 3
    with pytest.raises(DatasetError) as caught:
        read_labels(path, labels, values={3: 3, 9: HIDDEN})
    assert caught.value.found == "255 (1 voxel)" and "[0, 3, 9]" in caught.value.expected


def test_scaled_labels_are_read_as_their_values(tmp_path, save_nifti, labels):
    path = patch_header(save_nifti(tmp_path / "x.nii", numbers(np.int16) % 2), scl_slope=2, scl_inter=1)
    np.testing.assert_array_equal(read_labels(path, labels).data, (numbers(np.int16) % 2).T * 2 + 1)


# --- writing ---


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    st.tuples(*[st.floats(0.3, 8.0)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
    st.sampled_from([(0, 1), (1, 0), (1, 1), (2, 4)]),
)
def test_oblique_headers_come_back_byte_for_byte(tmp_path_factory, angles, spacing_mm, origin_mm, codes):
    folder = tmp_path_factory.mktemp("oblique")
    affine = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(*angles) @ np.diag(spacing_mm), origin_mm)
    image = nibabel.Nifti1Image(numbers(np.int16), affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    nibabel.save(image, folder / "like.nii.gz")
    write_labels(folder / "out.nii.gz", np.ones((5, 4, 3), np.uint8), like=folder / "like.nii.gz")
    assert geometry_of(folder / "out.nii.gz") == geometry_of(folder / "like.nii.gz")
    assert read_grid(folder / "out.nii.gz").is_near(read_grid(folder / "like.nii.gz"), 0)


def test_a_link_in_the_place_of_a_label_file_is_replaced_and_what_it_led_to_is_left_alone(tmp_path, save_nifti):
    like = save_nifti(tmp_path / "like.nii.gz", numbers(np.int16), np.eye(4))
    before = like.read_bytes()
    (tmp_path / "out.nii.gz").symlink_to(like)
    write_labels(tmp_path / "out.nii.gz", np.ones((5, 4, 3), np.uint8), like=like)
    assert like.read_bytes() == before and not (tmp_path / "out.nii.gz").is_symlink()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1)])
def test_a_written_file_says_nothing_of_the_patient(tmp_path, kind, ending, shape):
    image = kind(numbers(np.int16, shape), np.eye(4))
    image.header["descrip"], image.header["aux_file"], image.header["cal_max"] = b"Doe^John", b"doe.txt", 400
    image.header["intent_name"] = b"Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Doe^John 1950"))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "like.nii.gz")
    write_labels(tmp_path / f"out{ending}", np.ones((5, 4, 3), np.uint8), like=tmp_path / "like.nii.gz")
    content = (tmp_path / f"out{ending}").read_bytes()
    assert b"doe" not in (gzip.decompress(content) if ending == ".nii.gz" else content).lower()
    written = nibabel.load(tmp_path / f"out{ending}")
    assert type(written) is kind
    assert written.shape == shape
    assert written.get_data_dtype() == np.uint8
    assert not written.header.extensions
    assert (np.asarray(written.dataobj) == 1).all()
    assert float(written.header["cal_max"]) == 0


def test_a_big_endian_header_stays_so(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(numbers(np.int16), np.eye(4), header), tmp_path / "like.nii")
    write_labels(tmp_path / "out.nii", np.full((5, 4, 3), 2, np.uint8), like=tmp_path / "like.nii")
    like, out = (tmp_path / "like.nii").read_bytes(), (tmp_path / "out.nii").read_bytes()
    assert out[:4] == like[:4] == b"\0\0\x01\x5c"
    assert out[40:56] == like[40:56]  # dim
    assert out[252:328] == like[252:328]  # both forms
    assert out[352:] == b"\2" * 60


def test_the_same_map_gives_the_same_bytes_under_any_name(tmp_path, save_nifti):
    like = save_nifti(tmp_path / "like.nii.gz", numbers(np.int16))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, np.ones((5, 4, 3), np.uint8), like=like)
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "b.nii.gz").read_bytes()
    assert content[3] & 8 == 0 and content[4:8] == bytes(4)  # RFC 1952: no name, no time


@pytest.mark.parametrize("spoil", [lambda part: part ^ 1, lambda part: part[:-1], lambda part: part.repeat(2)])
def test_a_file_that_reads_back_otherwise_never_gets_its_name(tmp_path, save_nifti, monkeypatch, spoil):
    """A disk that changes, loses or repeats bytes."""
    like = save_nifti(tmp_path / "like.nii.gz", numbers(np.int16))
    written = nifti.gzipped

    @contextmanager
    def spoilt(path):
        with written(path) as stream:
            yield SimpleNamespace(write=lambda part: stream.write(spoil(np.frombuffer(part, np.uint8)).tobytes()))

    monkeypatch.setattr(nifti, "gzipped", spoilt)
    with pytest.raises(StorageError, match="out.nii.gz"):
        write_labels(tmp_path / "out.nii.gz", np.ones((5, 4, 3), np.uint8), like=like)
    assert [p.name for p in tmp_path.iterdir()] == ["like.nii.gz"]


def test_a_view_that_is_not_contiguous_is_written_as_it_looks(tmp_path, save_nifti):
    like = save_nifti(tmp_path / "like.nii.gz", numbers(np.int16))
    labels_map = numbers(np.uint8)[::-1].transpose(2, 1, 0)
    write_labels(tmp_path / "out.nii.gz", labels_map, like=like)
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj), labels_map.T)


def test_a_wrong_shape_leaves_nothing_behind(tmp_path, save_nifti):
    like = save_nifti(tmp_path / "like.nii.gz", numbers(np.int16))
    with pytest.raises(GeometryError, match=r"\(3, 4, 5\)"):
        write_labels(tmp_path / "out.nii.gz", np.ones((3, 4, 5), np.uint8), like=like)
    with pytest.raises(DatasetError, match="ends in .nii.gz"):
        write_labels(tmp_path / "out.png", np.ones((5, 4, 3), np.uint8), like=like)
    with pytest.raises(ValueError, match="uint8"):
        write_labels(tmp_path / "out.nii.gz", np.ones((5, 4, 3), np.int16), like=like)
    assert [p.name for p in tmp_path.iterdir()] == ["like.nii.gz"]


def test_a_target_that_cannot_be_written_leaves_nothing_half_done(tmp_path, save_nifti):
    like = save_nifti(tmp_path / "like.nii.gz", numbers(np.int16))
    (tmp_path / "out.nii.gz").mkdir()
    with pytest.raises(StorageError, match="out.nii.gz"):
        write_labels(tmp_path / "out.nii.gz", np.ones((5, 4, 3), np.uint8), like=like)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["like.nii.gz", "out.nii.gz"]


@pytest.mark.parametrize(
    ("drift_mm", "degrees", "qform_code"), [(0.0, 0.0, 1), (0.2, 0.0, 0), (0.0, 0.1, 0), (0.0, 33.0, 1)]
)
def test_a_made_header_has_a_qform_only_where_it_says_what_the_sform_does(tmp_path, drift_mm, degrees, qform_code):
    """300 slices of 1 mm and of 410 x 410 mm; a shift of 0.2 mm over all of them is too little to lean,
    and of a turn by 0.1 degrees a quaternion in float32 keeps too little."""
    affine = np.array([[0, 0, -410.0, 200], [0, -410.0, 0, 150], [1.0, 0, 0, -1000], [0, 0, 0, 1]])
    affine[0, 0] = drift_mm / 299
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    grid = Grid((300, 2, 2), affine)
    assert not grid.leans
    write_labels(tmp_path / "out.nii.gz", np.ones(grid.shape, np.uint8), like=grid)
    assert read_grid(tmp_path / "out.nii.gz").is_near(grid, 0.001)
    header = nibabel.load(tmp_path / "out.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, qform_code)


# --- real scans ---


def test_real_scans_are_read_as_nibabel_reads_them(flaremini):
    for name in ("btcv04", "lits02", "totalseg_aorta"):
        path = flaremini / f"imagesTr/{name}_0000.nii.gz"
        volume, reference = read_image(path), nibabel.load(path)
        np.testing.assert_array_equal(volume.data, np.asarray(reference.dataobj).T)
        np.testing.assert_allclose(volume.grid.affine[:, [2, 1, 0, 3]], reference.affine)
