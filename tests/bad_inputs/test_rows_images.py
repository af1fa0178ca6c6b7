"""Bad inputs, the rows about images: each is refused, handled, or read with a warning, as docs/bad-input.md says."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.data.nifti import read_grid, read_image, write_labels
from flarenet.data.reading import STRICT, Reading
from flarenet.errors import StorageError
from flarenet.volume import canonical
from tests.bad_inputs.case_set import AFFINE, SHAPE, geometry_of, nifti_bytes

ROOT = Path(__file__).resolve().parents[2]


def row(number, name, *values):
    return pytest.param(*values, id=f"row{number:02}-{name}")


def assert_refused(rows, found, *, expected="", remedy="", alone=4):
    """The bad case is refused once, the good one is not; a set of the bad case alone ends with code `alone`."""
    code, findings = rows.check()
    (finding,) = findings
    assert (code, finding.severity, finding.case) == (3, "refuse", "bad")
    assert finding.file.startswith(str(rows.folder / "imagesTr/bad")) and finding.expected
    assert found in finding.found and expected in finding.expected and remedy in finding.remedy
    assert rows.check(alone=True)[0] == alone


def assert_warned(rows, found, *words, remedy=""):
    """The bad case is read, with one warning."""
    code, findings = rows.check(*words)
    (finding,) = findings
    assert (code, finding.severity, finding.case) == (0, "warn", "bad")
    assert found in finding.found and remedy in finding.remedy


def assert_handled(rows, voxels=None, affine=AFFINE, *words, reading=STRICT):
    """The bad case is read without a word: these voxels at these places, and the header comes back."""
    assert rows.check(*words) == (0, [])
    same_as(rows.image, rows.scan if voxels is None else voxels, affine, reading)


def same_as(path, voxels, affine, reading=STRICT):
    volume = read_image(path, reading)
    np.testing.assert_array_equal(volume.data.T, voxels)
    np.testing.assert_allclose(volume.grid.affine[:, [2, 1, 0, 3]], affine, atol=1e-5)


def turned(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return turn @ np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]) @ AFFINE


def leaning(tangent):
    """Slices pushed along y, as a tilted gantry does."""
    affine = AFFINE.copy()
    affine[1, 2] = tangent * 5
    return affine


def changed(row=0, column=0, value=np.nan):
    affine = AFFINE.copy()
    affine[row, column] = value
    return affine


# --- where voxels lie ---


def test_row01_orientations(tmp_path):
    """One anatomy stored in 48 ways: one array for the network, and labels that come back to the same places."""
    scan = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    stored = nibabel.Nifti1Image(scan, np.diag([2.0, 1.5, 5.0, 1.0]))
    for axes, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        image = stored.as_reoriented(np.array(list(zip(axes, signs))))
        image.set_qform(image.affine, 1)
        nibabel.save(image, tmp_path / "x.nii.gz")
        upright, orientation = canonical(read_image(tmp_path / "x.nii.gz"))
        np.testing.assert_array_equal(upright.data.T, scan)
        drawn = orientation.undo((upright.data % 7).astype(np.uint8))
        write_labels(tmp_path / "y.nii.gz", drawn, like=tmp_path / "x.nii.gz")
        assert geometry_of(tmp_path / "y.nii.gz") == geometry_of(tmp_path / "x.nii.gz")
        back = nibabel.as_closest_canonical(nibabel.load(tmp_path / "y.nii.gz"))
        np.testing.assert_array_equal(np.asarray(back.dataobj), scan % 7)
        np.testing.assert_allclose(back.affine, stored.affine, atol=1e-5)


@pytest.mark.parametrize("degrees", [1, 17, 45], ids="row02-{}".format)
def test_row02_oblique(rows, degrees):
    rows.bad_image(affine=turned(degrees))
    assert_handled(rows, affine=turned(degrees))


def test_row03_hardly_sheared(rows):
    rows.bad_image(affine=leaning(0.0009), qform_code=0)
    assert_handled(rows, affine=leaning(0.0009))
    write_labels(rows.root / "out.nii.gz", np.ones(SHAPE[::-1], np.uint8), like=rows.image)
    assert geometry_of(rows.root / "out.nii.gz") == geometry_of(rows.image)


def test_row04_sheared(rows):
    """How it is resampled: tests/preparation/test_upright.py; from file to file: tests/inference/test_predict.py."""
    rows.bad_image(affine=leaning(0.3), qform_code=0)
    assert_warned(rows, "axes that lean by 28.73%", remedy="resampled")
    same_as(rows.image, rows.scan, leaning(0.3))


def test_row05_forms_that_differ(rows):
    rows.bad_image(srow_z=[0, 0, 5, 7.2])
    assert_refused(rows, "0.2 mm apart", expected="0.1 mm")
    rows.bad_image(srow_z=[0, 0, 5, 57])
    assert_refused(rows, "50 mm apart", expected="0.1 mm", remedy="--affine sform")
    assert_warned(rows, "50 mm apart", "--affine", "sform", remedy="the sform is used")
    assert_warned(rows, "50 mm apart", "--affine", "qform", remedy="the qform is used")
    for form, z_mm in (("sform", 57), ("qform", 7)):
        assert read_grid(rows.image, Reading(affine=form)).affine[2, 3] == z_mm


def test_row06_no_form(rows):
    rows.bad_image(sform_code=0, qform_code=0)
    assert_refused(rows, "both 0", remedy="--assume-affine")
    assert_warned(rows, "both 0", "--assume-affine", remedy="taken as RAS")
    same_as(rows.image, rows.scan, np.diag([2, 1.5, 5, 1]), Reading(assume_affine=True))


@pytest.mark.parametrize("code", ["sform_code", "qform_code"], ids="row07-no-{}".format)
def test_row07_one_form(rows, code):
    rows.bad_image(**{code: 0})
    assert_handled(rows)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        row(8, "zooms", {"pixdim": [1, 2, 1.53, 5, 0, 0, 0, 0], "qform_code": 0}, "2 x 1.5 x 5 and of 2 x 1.53 x 5"),
        row(9, "zero", {"pixdim": [1, 0, 1.5, 5, 0, 0, 0, 0]}, "0, 1.5, 5"),
        row(11, "pixdim-nan", {"pixdim": [1, np.nan, 1.5, 5, 0, 0, 0, 0]}, "nan, 1.5, 5"),
        row(11, "pixdim-inf", {"pixdim": [1, 2, 1.5, np.inf, 0, 0, 0, 0]}, "2, 1.5, inf"),
        row(11, "affine-nan", {"srow_x": [np.nan, 0, 0, 0]}, "nan"),
        row(11, "affine-inf", {"srow_x": [-2, 0, 0, np.inf]}, "inf"),
        row(12, "singular", {"srow_y": [-2, 0, 0, 0]}, "-2"),
    ],
)
def test_rows_of_geometry_that_cannot_be_trusted(rows, fields, found):
    rows.bad_image(**fields)
    assert_refused(rows, found)


def test_row10_negative_pixdim(rows):
    rows.bad_image(pixdim=[1, -2, 1.5, 5, 0, 0, 0, 0], qform_code=0)
    assert_warned(rows, "-2, 1.5, 5", remedy="sform is used")
    same_as(rows.image, rows.scan, AFFINE)
    rows.bad_image(pixdim=[1, -2, 1.5, 5, 0, 0, 0, 0], sform_code=0)
    assert_refused(rows, "-2, 1.5, 5")


@pytest.mark.parametrize(("code", "factor"), [row(38, "metre", 1, 1e-3), row(38, "micron", 3, 1e3)])
def test_row38_units(rows, code, factor):
    affine = AFFINE.copy()
    affine[:3] *= factor
    rows.bad_image(affine=affine, xyzt_units=code)
    assert_handled(rows)


def test_row38_unknown_unit(rows):
    rows.bad_image(xyzt_units=0)
    assert_warned(rows, "no unit of length")
    same_as(rows.image, rows.scan, AFFINE)


@pytest.mark.parametrize("size_mm", [0.05, 15], ids="row40-{}mm".format)
def test_row40_spacing(rows, size_mm):
    affine = AFFINE.copy()
    affine[2, 2] = size_mm
    rows.bad_image(affine=affine)
    assert_warned(rows, f"2 x 1.5 x {size_mm:g} mm")


# --- how many voxels, of which kind ---


def test_row13_one_volume(rows):
    rows.bad_image(rows.scan[..., None])
    assert_handled(rows)
    write_labels(rows.root / "out.nii.gz", np.ones(SHAPE[::-1], np.uint8), like=rows.image)
    assert nibabel.load(rows.root / "out.nii.gz").shape == (*SHAPE, 1)


def test_row14_several_volumes(rows):
    rows.bad_image(np.stack([rows.scan - 1, rows.scan, rows.scan + 1], axis=3))
    assert_refused(rows, "3 volumes", remedy="--volume 0")
    assert_handled(rows, rows.scan, AFFINE, "--volume", "1", reading=Reading(volume=1))
    assert rows.check("--volume", "3")[1][0].expected == "a volume from 0 to 2"
    write_labels(rows.root / "out.nii", np.ones(SHAPE[::-1], np.uint8), like=rows.image, reading=Reading(volume=1))
    assert nibabel.load(rows.root / "out.nii").shape == (*SHAPE, 1)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        row(15, "5d", (12, 16, 20, 1, 1), "12 x 16 x 20 x 1 x 1"),
        row(16, "2d", (12, 16), "12 x 16"),
        row(17, "one-voxel", (1, 1, 1), "1 x 1 x 1 voxels"),
    ],
)
def test_rows_of_shapes(rows, shape, found):
    rows.bad_image(np.resize(rows.scan, shape))
    assert_refused(rows, found)


def test_row17_one_slice(rows):
    rows.bad_image(rows.scan[:, :, 9:10])
    assert_handled(rows, rows.scan[:, :, 9:10])


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        row(18, "rgb", {"datatype": 128, "bitpix": 24}, "code 128"),
        row(18, "complex", {"datatype": 32, "bitpix": 64}, "code 32"),
        row(18, "999", {"datatype": 999}, "code 999"),
        row(18, "bitpix", {"bitpix": 32}, "32"),
        row(21, "nan", {"scl_slope": np.nan, "scl_inter": 0}, "nan, 0"),
        row(21, "inf", {"scl_slope": np.inf}, "inf, 0"),
        row(22, "intercept", {"scl_slope": 0, "scl_inter": -1024}, "0, -1024"),
        row(31, "offset-past-end", {"vox_offset": 1 << 20}, "bytes"),
        row(31, "offset-in-header", {"vox_offset": 348}, "348"),
        row(31, "excess", {"dim": [3, 12, 16, 19, 1, 1, 1, 1]}, "more bytes than voxels"),
    ],
)
def test_rows_of_headers_that_do_not_hold(rows, fields, found):
    rows.bad_image(**fields)
    assert_refused(rows, found)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "modality"),
    [
        row(19, "float64", np.float64, -1024, 3071, "CT"),
        row(19, "int64", np.int64, -1024, 3071, "CT"),
        row(19, "uint8", np.uint8, 0, 255, "MR"),
        row(19, "int8", np.int8, -128, 127, "MR"),
    ],
)
def test_row19_types(rows, dtype, low, high, modality):
    rows.modality = modality
    voxels = np.clip(rows.scan, low, high).astype(dtype)
    rows.bad_image(voxels)
    assert_handled(rows, voxels)


def test_row20_wrapped_negatives(rows):
    rows.bad_image(rows.scan.view(np.uint16))
    assert_refused(rows, "uint16 numbers up to 65", expected="wrapped around", remedy="int16")


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "voxels"),
    [
        row(21, "zero", 1, 0, 0, 1),
        row(23, "negative", -1, -1, 0, 1),
        row(23, "beyond-int16", 1, 40, 8, (40, 8)),
    ],
)
def test_rows_of_scaling(rows, stored, slope, intercept, voxels):
    rows.bad_image(rows.scan * np.int16(stored), scl_slope=slope, scl_inter=intercept)
    expected = rows.scan * 40.0 + 8 if voxels == (40, 8) else rows.scan
    assert_handled(rows, expected)
    assert np.abs(expected).max() > 32767 or voxels == 1


# --- what the numbers say ---


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf], ids="row24-{}".format)
def test_row24_few_that_are_no_numbers(rows, odd):
    voxels = rows.scan.astype(np.float32)
    voxels[5, 5, 5:8] = odd  # 3 of 3840: 0.08 %
    rows.bad_image(voxels)
    assert_warned(rows, "3 voxels that are NaN or infinite", remedy="taken as air")
    voxels[5, 5, 5:8] = rows.scan.min()
    same_as(rows.image, voxels, AFFINE)


@pytest.mark.parametrize(
    ("share", "found"), [row(25, "4-voxels", 4, "4 voxels that are"), row(25, "all", 3840, "3840 voxels that are")]
)
def test_row25_many_that_are_no_numbers(rows, share, found):
    voxels = rows.scan.astype(np.float32)
    voxels.reshape(-1)[:share] = np.nan
    rows.bad_image(voxels)
    assert_refused(rows, found, expected="0.1%")


def test_row26_constant(rows):
    rows.bad_image(np.full(SHAPE, 7, np.int16))
    assert_refused(rows, "7 in every voxel")


def test_row26_absurd(rows):
    voxels = rows.scan.astype(np.float32)
    voxels[0, 0, 0] = 1e30
    rows.bad_image(voxels)
    assert_refused(rows, "1e+30")


def test_row41_air_only(rows):
    """What is predicted there: tests/inference/test_predict.py."""
    rows.bad_image(np.random.default_rng(1).normal(-1000, 10, SHAPE).astype(np.int16))
    assert_warned(rows, "values from -10")


def test_row43_scaled(rows):
    rows.bad_image(((rows.scan + 1100) / 2000).astype(np.float32))
    assert_refused(rows, "values from 0.0", expected="HU")


def test_row43_mr(rows):
    voxels = np.where(rows.scan > -500, 300, 5).astype(np.int16)
    rows.bad_image(voxels)
    assert_warned(rows, "values from 5 to 300", remedy="is this CT?")
    same_as(rows.image, voxels, AFFINE)
    rows.modality = "MR"
    code, findings = rows.check()
    assert (code, findings) == (0, [])


def test_row44_no_offset(rows):
    rows.bad_image(rows.scan + np.int16(1060))
    assert_warned(rows, "air near 0 and tissue near 1024", remedy="nothing is shifted")
    same_as(rows.image, rows.scan + 1060, AFFINE)


# --- files ---


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("end", [0.01, 0.25, 0.5, 0.99, -8], ids="row27-{}".format)
def test_row27_cut(rows, end, ending):
    rows.ending = ending
    path = rows.bad_image()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * end) if end > 0 else end])
    assert_refused(rows, "")


def test_row28_flipped_bits(rows):
    """The CRC itself, then 20 bits of the deflate stream, each in a file that is whole but for it."""
    path = rows.bad_image()
    whole = path.read_bytes()
    places = np.random.default_rng(28).integers(10 * 8, (len(whole) - 9) * 8, 20).tolist()
    for bit in [(len(whole) - 8) * 8, *places]:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        code, (finding,) = rows.check()
        assert (code, finding.severity) == (3, "refuse"), bit


@pytest.mark.parametrize(
    ("content", "found"),
    [
        row(29, "empty", b"", "an empty file"),
        row(29, "html", b"<!DOCTYPE html><html>404</html>", "HTML"),
        row(29, "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs pointer"),
        row(37, "pair", nifti_bytes(np.ones(SHAPE, np.int16), magic=b"ni1")[:348], "two-file NIfTI pair"),
        row(37, "analyze", nifti_bytes(np.ones(SHAPE, np.int16), magic=b"")[:348], "Analyze pair"),
    ],
)
def test_rows_of_other_files(rows, content, found):
    rows.write(rows.image, content, zipped=False)
    assert_refused(rows, found, expected="NIfTI", remedy="convert" if "pair" in found else "")


def test_row31_header_only(rows):
    rows.write(rows.image, nifti_bytes(rows.scan)[:352], zipped=False)
    assert_refused(rows, "a file of at most 352 bytes", expected="8032")  # 352 + 12 x 16 x 20 x 2


def test_row37_pair_by_name(rows):
    rows.ending = ".img"
    rows.write(rows.image, rows.scan.tobytes())
    assert_refused(rows, "", remedy="convert")


@pytest.mark.parametrize(
    ("ending", "zipped", "found"),
    [row(30, "nii-named-gz", ".nii.gz", False, "not compressed"), row(30, "gz-named-nii", ".nii", True, "a gzip file")],
)
def test_row30_names(rows, ending, zipped, found):
    rows.ending = ending
    rows.write(rows.image, nifti_bytes(rows.scan), zipped=zipped)
    assert_warned(rows, found, remedy="rename")
    same_as(rows.image, rows.scan, AFFINE)


@pytest.mark.parametrize(
    ("dim", "found"),
    [
        row(32, "huge", [3, 32767, 32767, 32767, 1, 1, 1, 1], "32767 x 32767 x 32767"),
        row(32, "zero", [3, 12, 0, 20, 1, 1, 1, 1], "12 x 0 x 20"),
        row(32, "negative", [3, 12, -16, 20, 1, 1, 1, 1], "12 x -16 x 20"),
        row(32, "dim0", [9, 12, 16, 20, 1, 1, 1, 1], "9 dimensions"),
    ],
)
def test_row32_dimensions(rows, dim, found):
    rows.bad_image(dim=dim)
    began = time.perf_counter()
    assert_refused(rows, found)
    assert time.perf_counter() - began < 2  # both checks, of the good case too


@pytest.mark.parametrize(
    ("make", "found"),
    [
        row(33, "fifo", os.mkfifo, "not a regular file"),
        row(33, "directory", os.mkdir, "a folder"),
        row(33, "dangling-link", lambda path: path.symlink_to("nothing"), "a broken link"),
    ],
)
def test_row33_no_files(rows, make, found):
    rows.image.parent.mkdir(exist_ok=True)
    make(rows.image)
    began = time.perf_counter()
    assert_refused(rows, found)
    assert time.perf_counter() - began < 2


def test_row34_forbidden(rows):
    """What may not be read is a fault of the environment: alone it ends with 5."""
    rows.bad_image().chmod(0)
    if os.geteuid() == 0:  # nothing is forbidden to root, so somebody else reads it
        refused_as_nobody(rows.image.read_bytes())
    else:
        assert_refused(rows, "Permission denied", alone=5)


def refused_as_nobody(content):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "x.nii.gz"
        path.write_bytes(content)
        path.chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(StorageError, match="Permission denied") as caught:
                read_image(path)
        finally:
            os.seteuid(0)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8], ids="row35-{.__name__}".format)
def test_row35_big_endian(rows, dtype):
    rows.modality = "MR"  # uint8 holds no HU
    voxels = rows.scan.astype(dtype)
    rows.bad_image(voxels, order=">")
    assert_handled(rows, voxels)
    assert read_image(rows.image).data.dtype.isnative


def test_row36_nifti2(rows):
    rows.bad_image(kind=nibabel.Nifti2Image)
    assert_handled(rows)


READ = """
import re, sys
from pathlib import Path
from flarenet.data.nifti import read_image
volume = read_image(sys.argv[1])
assert volume.data.shape == (2000, 512, 512) and volume.data.nbytes == 1_048_576_000 and volume.data[0, 0, 0] == 1
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
"""


def test_row39_a_gigabyte(tmp_path):
    """512 x 512 x 2000: nothing beside the voxels but the program. The file is a hole, of a few bytes on the disk."""
    path = tmp_path / "x.nii"
    content = nifti_bytes(np.ones((1, 1, 1), np.int16), dim=[3, 512, 512, 2000, 1, 1, 1, 1])
    path.write_bytes(content)
    os.truncate(path, 352 + 2 * 512 * 512 * 2000)
    done = subprocess.run([sys.executable, "-c", READ, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_024_000 + 150 * 1024  # KiB


def test_a_bomb(rows):
    """2 GB of voxels in 2 MB."""
    header = nifti_bytes(np.ones((1, 1, 1), np.int16), dim=[3, 1024, 1024, 1024, 1, 1, 1, 1])[:352]
    rows.image.parent.mkdir(exist_ok=True)
    rows.image.write_bytes(gzip.compress(header) + gzip.compress(bytes(64 << 20)) * 32)
    began = time.perf_counter()
    assert_refused(rows, "2048 MB of voxels", remedy="unpack it")
    assert time.perf_counter() - began < 2
