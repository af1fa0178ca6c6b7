"""A synthetic DICOM series, written slice by slice."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from flarenet.data.dicom import inspect_series

SHAPE = (5, 6, 7)
"""Slices, rows, columns."""

AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])
PATIENT = "Doe^John"


STUDY = {name: generate_uid() for name in ("StudyInstanceUID", "FrameOfReferenceUID")}


def with_study(k, content):
    """A `change` of write_series: what a scanner writes and a reader of scans does not need."""
    for name, uid in STUDY.items():
        setattr(content, name, uid)


def read_series(folder):
    """The scan of a folder of slices, without the warnings about it."""
    return inspect_series(folder)[0]


def phantom():
    return np.random.default_rng(0).integers(-1024, 1500, SHAPE).astype(np.int16)


def turned(degrees):
    """Directions of a row and of a column, turned about two axes."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return (turn @ AXIAL.T).T


def write_series(
    folder, hu=None, *, orientation=AXIAL, step=None, slope=1, intercept=-1024, reverse=False, change=None
):
    """One file a slice; `change` may alter slice k's elements before it is written, or return False to leave it out."""
    hu, series = phantom() if hu is None else hu, generate_uid()
    step = np.cross(*orientation) * 2.5 if step is None else np.array(step)
    folder.mkdir(parents=True, exist_ok=True)
    for k, plane in enumerate(hu):
        content = Dataset()
        content.file_meta = FileMetaDataset()
        content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = CTImageStorage
        content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = generate_uid()
        content.SeriesInstanceUID, content.Modality = series, "CT"
        content.PatientName, content.PatientID, content.InstanceNumber = PATIENT, "4711", 99 - k
        content.Rows, content.Columns = plane.shape
        content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
        content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 16, 15, 0
        content.RescaleSlope, content.RescaleIntercept = slope, intercept
        content.PixelSpacing, content.SliceThickness = [0.8, 1.2], 2.5
        content.ImageOrientationPatient = [round(float(number), 6) for number in orientation.ravel()]
        content.ImagePositionPatient = [round(float(x), 4) for x in np.array([-30.0, 12.0, 100.0]) + k * step]
        content.PixelData = ((plane - intercept) / slope).astype("<u2").tobytes()
        if change is None or change(k, content) is not False:
            name = len(hu) - k if reverse else k
            content.save_as(folder / f"slice{name:03}.dcm", enforce_file_format=True)
    return folder
