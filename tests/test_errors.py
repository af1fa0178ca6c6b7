"""Errors say what, found, expected and what to do; each kind has its exit code."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from flarenet import errors
from flarenet.errors import DatasetError, FlarenetError, counted, some_of, unknown, without_frames


def test_a_message_has_one_line_per_known_part():
    full = DatasetError("x.nii", found="3", expected="4", remedy="count again")
    assert str(full) == "x.nii\n  found: 3\n  expected: 4\n  what to do: count again"
    assert str(DatasetError("x.nii", found=0)) == "x.nii\n  found: 0"
    assert str(DatasetError("x.nii")) == "x.nii"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("FlarenetError", 1), ("UsageError", 2), ("CasesFailed", 3), ("DatasetError", 4), ("GeometryError", 4)]
    + [("PlanError", 4), ("RunError", 4), ("StorageError", 5), ("UnsafeError", 7)],
)
def test_exit_codes(kind, code):
    error = getattr(errors, kind)
    assert issubclass(error, FlarenetError)
    assert error("x").exit_code == code


def test_an_error_that_is_kept_holds_nothing_of_the_scan_it_was_found_in():
    held = []

    def read():
        scan, part = np.zeros(9), np.ones(4)
        held.extend(map(weakref.ref, (scan, part)))
        try:
            decompress(part)
        except ValueError as problem:
            raise DatasetError("a.nii.gz", found=problem) from problem

    def decompress(part):
        raise ValueError("CRC check failed")

    try:
        read()
    except DatasetError as error:
        kept = without_frames(error)
    assert kept.found == "CRC check failed" and isinstance(kept.__cause__, ValueError)
    assert [reference() for reference in held] == [None, None]


def test_a_long_list_is_cut_and_counted():
    assert some_of(["a", "b", "c"], 3) == "a, b, c"
    assert some_of(["a", "b", "c"], 2) == "a, b and 1 more"
    assert some_of([]) == ""


def test_one_thing_is_told_in_the_singular():
    assert [counted(number, "voxel") for number in (0, 1, 2)] == ["0 voxels", "1 voxel", "2 voxels"]
    assert [counted(number, "entry", "entries") for number in (1, 3)] == ["1 entry", "3 entries"]


def test_an_unknown_name_lists_the_real_ones_and_the_nearest():
    error = unknown("trainer", "3dorgn", ["MAE", "3DOrgan", "3DCancer"])
    assert error.thing == "unknown trainer '3dorgn'"
    assert error.expected == "3DCancer, 3DOrgan, MAE"
    assert error.remedy == "did you mean '3DOrgan'?"
    assert error.exit_code == 2


def test_nothing_is_proposed_where_nothing_is_near_or_there():
    assert unknown("trainer", "zzzz", ["MAE"]).remedy is None
    assert unknown("trainer", "dual", ["MAE", "DualDecoder2D"]).remedy == "did you mean 'DualDecoder2D'?"
    assert unknown("data set", "x", []).expected == "no data set exists yet"


def test_what_may_stand_in_place_of_a_name_comes_after_the_names():
    error = unknown("list", "papr", ["paper", "heads"], otherwise="a file of yours")
    assert (error.expected, error.remedy) == ("heads, paper, or a file of yours", "did you mean 'paper'?")
