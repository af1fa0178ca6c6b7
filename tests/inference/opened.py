"""Scans as sinks get them."""

import numpy as np

from flarenet.data.nifti.read import read_header
from flarenet.inference.opening import OpenedScan
from flarenet.preparation.reoriented import ReorientedVolume
from flarenet.volume import Volume


def opened(name, grid):
    """A scan of zeros that has no header, as an array or a series."""
    return OpenedScan(name, ReorientedVolume(Volume(np.zeros(grid.shape, np.int16), grid)), grid, (), 0.0)


def opened_file(path):
    """A scan with the header of a file; its voxels are zeros."""
    header = read_header(path)
    return OpenedScan(path, opened(path, header.grid).scan, header, (), 0.0)
