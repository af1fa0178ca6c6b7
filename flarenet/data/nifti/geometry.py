"""Where voxels lie: the affine of a header, from its sform or qform, checked against everything else in the header."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from ...errors import GeometryError
from ...volume import Grid
from ..findings import Finding, remark
from ..reading import Reading

FORMS_AGREE_MM = 0.1
"""How far sform and qform may place the same corner voxel apart."""

SIZES_AGREE = 0.01
"""How far, relatively, the sizes in the sform may be from pixdim."""

_UNIT_MM = {1: 1000.0, 2: 1.0, 3: 0.001}


def locate(
    raw: nibabel.Nifti1Header, shape: tuple[int, int, int], path: Path, reading: Reading
) -> tuple[Grid, list[Finding]]:
    """The grid (k, j, i) of a header, in RAS+ mm, and warnings about it. Raises GeometryError naming the field."""
    unit_mm, remarks = _unit(raw, path)
    spacing, said = _spacing(raw, path)
    remarks += said
    forms = {name: _trusted(form, f"{path}: {name}") for name, form in _forms(raw, spacing, path).items()}
    if "sform" in forms:
        remarks += _check_sizes(forms["sform"], spacing, path, reading)
    if not forms:
        forms, said = _assumed(spacing, path, reading)
        remarks += said
    grids = {name: _grid(form, unit_mm, shape) for name, form in forms.items()}
    remarks += _check_forms(grids, path, reading)
    grid = grids.get(reading.affine) or next(iter(grids.values()))
    return grid, remarks + check_shear(grid, f"{path}: affine")


def stated_spacing_mm(raw: nibabel.Nifti1Header, grid: Grid) -> tuple[float, float, float]:
    """The voxel sizes (k, j, i) of a header whose grid is `grid`.

    They are those of pixdim: an oblique sform gives the same sizes, but with rounding errors. Where the two differ by
    more than SIZES_AGREE, which only `--affine` lets pass, they are those of the grid.
    """
    k_mm, j_mm, i_mm = stated = abs(raw["pixdim"][3:0:-1].astype(float)) * _UNIT_MM.get(int(raw["xyzt_units"]) & 7, 1.0)
    agree = (abs(stated - grid.spacing_mm) <= SIZES_AGREE * stated).all()
    return (float(k_mm), float(j_mm), float(i_mm)) if agree else grid.spacing_mm


def _unit(raw: nibabel.Nifti1Header, path: Path) -> tuple[float, list[Finding]]:
    code = int(raw["xyzt_units"]) & 7
    if code in _UNIT_MM:
        return _UNIT_MM[code], []
    return 1.0, [remark(f"{path}: xyzt_units", found="no unit of length", expected="mm, which is assumed")]


def _spacing(raw: nibabel.Nifti1Header, path: Path) -> tuple[np.ndarray, list[Finding]]:
    """The sizes (i, j, k) without their signs, and a warning for negative ones, which are accepted where an sform says
    how the axes run."""
    spacing = np.array(raw["pixdim"][1:4], dtype=float)
    where, found = f"{path}: pixdim", ", ".join(f"{size:g}" for size in spacing)
    if not (np.isfinite(spacing) & (spacing != 0)).all():
        raise GeometryError(where, found=found, expected="three finite sizes above 0 mm")
    if (spacing > 0).all():
        return spacing, []
    if int(raw["sform_code"]) <= 0:
        raise GeometryError(where, found=found, expected="three sizes above 0 mm, or an sform")
    said = remark(where, found=found, expected="sizes above 0 mm", remedy="the sform is used; some readers mirror it")
    return abs(spacing), [said]


def _forms(raw: nibabel.Nifti1Header, spacing: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    forms = {}
    if int(raw["sform_code"]) > 0:
        forms["sform"] = raw.get_sform()
    if int(raw["qform_code"]) > 0:
        forms["qform"] = _qform(raw, spacing, path)
    return forms


def _qform(raw: nibabel.Nifti1Header, spacing: np.ndarray, path: Path) -> np.ndarray:
    copy = raw.copy()
    copy["pixdim"][1:4] = spacing
    if copy["pixdim"][0] == 0:  # the standard: 0 counts as 1
        copy["pixdim"][0] = 1
    try:
        return copy.get_qform()
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(f"{path}: qform", found=error, expected="a rotation and a handedness of 1 or -1") from error


def _trusted(affine: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(affine).all():
        raise GeometryError(where, found=affine.tolist(), expected="finite numbers")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise GeometryError(where, found=affine[:3].tolist(), expected="three axes that span space")
    return affine


def _check_sizes(sform: np.ndarray, spacing: np.ndarray, path: Path, reading: Reading) -> list[Finding]:
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if (abs(sizes - spacing) <= SIZES_AGREE * spacing).all():
        return []
    where = f"{path}: sform and pixdim"
    found = f"voxels of {_listed(sizes)} and of {_listed(spacing)} mm"
    expected = f"sizes that agree to {SIZES_AGREE:.0%}"
    if reading.affine == "agree":
        remedy = "find out which is right; --affine sform trusts the sform, --affine qform the pixdim"
        raise GeometryError(where, found=found, expected=expected, remedy=remedy)
    return [remark(where, found=found, expected=expected, remedy=f"read by --affine {reading.affine}, as requested")]


def _assumed(spacing: np.ndarray, path: Path, reading: Reading) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The affine of a header without sform and qform: RAS with the sizes of pixdim and the first voxel at 0, as METHOD
    1 of the standard. Raises GeometryError unless a person allowed that."""
    where, expected = f"{path}: sform_code, qform_code", "an sform or a qform: without one left and right are unknown"
    if not reading.assume_affine:
        remedy = "--assume-affine takes it as RAS with its pixdim"
        raise GeometryError(where, found="both 0", expected=expected, remedy=remedy)
    said = remark(where, found="both 0", expected=expected, remedy="taken as RAS with its pixdim, as requested")
    return {"pixdim": np.diag([*spacing, 1.0])}, [said]


def _grid(form: np.ndarray, unit_mm: float, shape: tuple[int, int, int]) -> Grid:
    affine = form[:, [2, 1, 0, 3]].copy()
    affine[:3] *= unit_mm
    return Grid(shape, affine)


def _check_forms(grids: dict[str, Grid], path: Path, reading: Reading) -> list[Finding]:
    if len(grids) < 2:
        return []
    apart_mm = grids["sform"].largest_distance_mm(grids["qform"])
    if apart_mm <= FORMS_AGREE_MM:
        return []
    where = f"{path}: sform and qform"
    found, expected = f"{apart_mm:.3g} mm apart at a corner", f"at most {FORMS_AGREE_MM} mm"
    if reading.affine == "agree":
        remedy = "check in a viewer which one is right, then --affine sform or --affine qform"
        raise GeometryError(where, found=found, expected=expected, remedy=remedy)
    return [remark(where, found=found, expected=expected, remedy=f"the {reading.affine} is used, as requested")]


def check_shear(grid: Grid, file: object) -> list[Finding]:
    """A warning where the axes lean."""
    if not grid.leans:
        return []
    found = f"axes that lean by {grid.shear:.2%}, as with a tilted gantry"
    remedy = "it is resampled to upright axes for the network, and label maps go back to its own grid"
    return [remark(file, found=found, expected="axes at right angles", remedy=remedy)]


def _listed(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
