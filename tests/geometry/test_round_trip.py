"""From a file to a file: a network that answers what it sees gives every voxel its label back, on the scan's own grid.

Properties G01 (any placement), G04 (sheared and oblique) and G08 (reading and writing again and again).
"""

from __future__ import annotations

import nibabel
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flarenet.data.nifti import read_grid, read_labels, write_labels
from flarenet.inference.many import predict_pairs
from flarenet.inference.outputs.outputs import output_names
from flarenet.volume import upright_grid
from tests.geometry.worlds import (
    LABELS,
    examples,
    geometry,
    label_maps,
    own_spacing_mm,
    placements,
    predictor,
    voxels,
    write_scan,
)

CODES = st.sampled_from([(1, 1), (0, 1), (1, 0), (2, 4)])


def answer(scan, out):
    """The file that prediction writes where nothing has to be resampled."""
    planned = predictor(own_spacing_mm(upright_grid(read_grid(scan))))
    done, failures = predict_pairs(planned, output_names([scan], out), progress=lambda *_: None)
    assert (done, failures) == ([out / "scan.nii.gz"], [])
    return done[0]


@given(affine=placements(), drawn=label_maps(), codes=CODES)
@examples(fast=500, full=20_000)
def test_any_placement_comes_back_byte_for_byte_and_no_voxel_is_wrong(tmp_path, affine, drawn, codes):
    scan = write_scan(tmp_path / "scan_0000.nii.gz", drawn, affine, codes=codes)
    written = answer(scan, tmp_path / "out")
    assert geometry(written) == geometry(scan)
    assert nibabel.load(written).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(voxels(written), drawn)


@given(affine=placements(shear=0.3), aside=st.tuples(*[st.floats(-2, 2)] * 3))
@examples(fast=100, full=4_000)
def test_a_sheared_scan_keeps_its_header_and_a_marker_its_place_in_the_world(tmp_path, affine, aside):
    """A gantry that leans: only an sform can say so. The marker is a ball of eight voxels across."""
    away = np.indices((16, 15, 14)) - np.reshape(np.array([7.5, 7, 6.5]) + aside, (3, 1, 1, 1))
    drawn = np.where((away**2).sum(axis=0) <= 16, 4, 0).astype(np.uint8)
    scan = write_scan(tmp_path / "scan_0000.nii.gz", drawn, affine, codes=(0, 1))
    written = answer(scan, tmp_path / "out")
    assert geometry(written) == geometry(scan)
    # the header is the same, so a distance in voxels is one in the world
    apart = np.argwhere(voxels(written)).mean(axis=0) - np.argwhere(drawn).mean(axis=0)
    assert np.abs(apart).max() <= 0.5


@given(affine=placements(), drawn=label_maps(most=5), codes=CODES)
@examples(fast=20, full=500)
def test_ten_times_read_and_written_is_the_same_file(tmp_path, affine, drawn, codes):
    like = write_scan(tmp_path / "scan.nii.gz", drawn, affine, codes=codes)
    first = tmp_path / "0.nii.gz"
    write_labels(first, np.ascontiguousarray(drawn.T), like=like)
    before = first
    for cycle in range(1, 10):
        after = tmp_path / f"{cycle}.nii.gz"
        write_labels(after, read_labels(before, LABELS).data, like=before)
        before = after
    assert geometry(first) == geometry(like)
    assert before.read_bytes() == first.read_bytes()
    np.testing.assert_array_equal(voxels(before), drawn)
