"""Where a voxel lies in the world: as nibabel and SimpleITK have it (property G06)."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarenet.data.nifti import read_grid
from tests.geometry.worlds import examples, label_maps, placements, write_scan

sitk = pytest.importorskip("SimpleITK", reason="the second opinion on geometry")

LPS_TO_RAS = np.array([-1, -1, 1])


@given(affine=placements(), drawn=label_maps(), where=st.tuples(*[st.floats(-20, 20)] * 3))
@examples(fast=500, full=5_000)
def test_our_world_is_nibabels_and_simpleitks(tmp_path, affine, drawn, where):
    path = write_scan(tmp_path / "scan.nii", drawn, affine)
    ours = read_grid(path).affine @ [*where[::-1], 1.0]
    theirs = nibabel.load(path).affine @ [*where, 1.0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    itk = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    itk.SetOrigin(reader.GetOrigin())
    itk.SetSpacing(reader.GetSpacing())
    itk.SetDirection(reader.GetDirection())
    np.testing.assert_allclose(
        ours[:3], itk.TransformContinuousIndexToPhysicalPoint(where) * LPS_TO_RAS, rtol=0, atol=1e-3
    )
