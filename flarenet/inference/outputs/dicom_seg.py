"""The label map of a DICOM series as a DICOM Segmentation (extra `dicom`): `flarenet_predict --dicom-seg`.

It has a binary segment for each label that occurs (PS3.3, A.51), and is made by highdicom. Like any object derived from
a series, it names the patient and the study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import __version__
from ...data.dicom import file_in_memory, series_files
from ...data.labels import LabelSet
from ...errors import DatasetError, FlarenetError, StorageError, needs_extra
from ...silence import silent
from ...volume import Grid
from ...whole import whole_file
from ..opening import OpenedScan
from .outputs import WrittenAtEnd, output_path
from .slices import FinishedSlice, LabelMap

if TYPE_CHECKING:
    from pydicom import Dataset

FOLDER = "dicom_seg"

_NEEDED = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
    "ReferringPhysicianName",
)
"""Elements of type 2: they must be there, but may be empty."""

_NEAR_MM = 0.01
_SIDES = {"left": "Left", "right": "Right"}


class DicomSeg:
    """The Output that writes dicom_seg/CASE.dcm.

    A call raises DatasetError, before the network runs, for a scan that is not a series, and for a series in which a
    slice lacks an element that a Segmentation refers to.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        with needs_extra("dicom", "--dicom-seg"):
            import highdicom  # noqa: F401 - asked for now, not after the first scan

    def __call__(self, output: Path, scan: OpenedScan) -> DicomSegSink:
        image = Path(scan.name)
        if not image.is_dir():
            raise DatasetError(image, found="a file", expected="a folder of DICOM slices, from which DICOM SEG is made")
        slices = series_files(image)
        with _told_of(image):
            for path in slices:
                _refuse_lacking(_read(path, _NEEDED), path)
        return DicomSegSink(self.files(output)[0], image, slices, scan.grid, labels=self.labels)

    def files(self, output: Path) -> tuple[Path, ...]:
        return (output_path(output, FOLDER, ".dcm"),)


class DicomSegSink(WrittenAtEnd):
    """Keeps the slices that hold labels, a byte a voxel, because highdicom takes all frames at once.

    slices  files of the series, in the order of the grid
    Raises DatasetError where highdicom refuses the series, and StorageError where the file, read back, does not hold
    every label at the places of its slices.
    """

    def __init__(self, path: Path, series: Path, slices: Sequence[Path], grid: Grid, *, labels: LabelSet) -> None:
        super().__init__(path)
        self.series, self.slices, self.grid, self.labels = series, slices, grid, labels
        self._map = LabelMap(grid)

    def take(self, finished: FinishedSlice) -> None:
        if finished.labels.any():  # slices of the map that are never touched take no memory
            self._map.take(finished)

    def finish(self) -> None:
        label_map = self._map.labels
        # a Segmentation needs a frame: without any label, one frame is empty
        places = [z for z, plane in enumerate(label_map) if plane.any()] or [0]
        with _told_of(self.series):
            sources = {z: _source(self.slices[z], apart_mm=self.grid.spacing_mm[0]) for z in places}
            with whole_file(self.path) as temporary:
                with silent():  # pydicom's warnings quote values, which may be the patient's
                    segmentation(label_map[places], list(sources.values()), self.labels).save_as(temporary)
                self._compare(temporary, sources)

    def _compare(self, written: Path, sources: Mapping[int, Dataset]) -> None:
        """Raise StorageError unless each frame holds its label in the slice whose place in the world it names.

        sources  number of a slice in the series -> the slice. Its own place is compared, not that of the grid: slices
                 that are read as evenly spaced may lie a little beside it
        """
        from highdicom.seg import segread

        seg = segread(written, lazy_frame_retrieval=True)
        values = {one.SegmentNumber: self.labels.names.index(one.SegmentLabel) for one in seg.SegmentSequence}
        origins = np.array([source.ImagePositionPatient for source in sources.values()], dtype=float)
        seen = np.zeros(256, dtype=np.int64)
        for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence, start=1):
            # what is the same in all frames, as when there is only one, is in the shared groups
            place, segment = (
                (frame if name in frame else seg.SharedFunctionalGroupsSequence[0])[name].value[0]
                for name in ("PlanePositionSequence", "SegmentIdentificationSequence")
            )
            away_mm = np.linalg.norm(origins - np.array(place.ImagePositionPatient, dtype=float), axis=1)
            z, value = list(sources)[int(away_mm.argmin())], values[segment.ReferencedSegmentNumber]
            plane = seg.get_stored_frame(number) > 0
            if away_mm.min() > _NEAR_MM or not np.array_equal(plane, self._map.labels[z] == value):
                raise StorageError(self.path, found=f"a different frame {number} when read back", expected="its label")
            seen[value] += plane.sum()
        there = np.zeros(256, dtype=np.int64)
        for answer in self._map.labels:
            there += np.bincount(answer.ravel(), minlength=256)
        if not np.array_equal(seen[1:], there[1:]):
            raise StorageError(self.path, found="other labels when read back", expected="those of the answer")


def segmentation(label_map: np.ndarray, sources: Sequence[Dataset], labels: LabelSet) -> Any:
    """The highdicom Segmentation of label slices `label_map`, uint8 [n, Y, X], of the DICOM slices `sources`.

    Its UIDs are made from the series and the labels, so the same label map gets the same UIDs.
    """
    import highdicom
    from pydicom.uid import generate_uid

    present = [value for value in labels.values if (label_map == value).any()]
    table = np.zeros(256, dtype=np.uint8)
    table[present] = np.arange(1, len(present) + 1)
    facts = [sources[0].SeriesInstanceUID, hashlib.sha256(label_map.tobytes()).hexdigest(), *labels.names]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=table[label_map],
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _described(number, value, labels) for number, value in enumerate(present or labels.values[:1], start=1)
        ],
        series_instance_uid=generate_uid(entropy_srcs=[*facts, "series"]),
        series_number=1000,
        sop_instance_uid=generate_uid(entropy_srcs=[*facts, "instance"]),
        instance_number=1,
        manufacturer="flarenet",
        manufacturer_model_name="flarenet",
        software_versions=__version__,
        device_serial_number="0",
        omit_empty_frames=bool(present),
        content_label="SEGMENTATION",
    )


def _described(number: int, value: int, labels: LabelSet) -> Any:
    """The description of a segment, with its SNOMED CT code if pydicom knows one for the label's name."""
    import highdicom
    from pydicom.sr.codedict import codes

    lesion = value in labels.lesions
    name = labels.names[value]
    words = name.replace("_", " ").replace("-", " ").lower().split()
    kind = _code("".join(word.capitalize() for word in words if word not in _SIDES))
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure if lesion else codes.SCT.Organ,
        segmented_property_type=kind or (codes.SCT.Lesion if lesion else codes.SCT.AnatomicalStructure),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="flarenet", family=codes.DCM.ArtificialIntelligence, version=__version__
        ),
    )
    for word in words:
        if word in _SIDES and kind:
            side = highdicom.sr.CodedConcept.from_code(_code(_SIDES[word]))
            described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return described


def _code(keyword: str) -> Any:
    """The code of SNOMED CT with this keyword; None where pydicom has none."""
    from pydicom.sr.codedict import codes

    return getattr(codes.SCT, keyword) if keyword in codes.SCT.dir() else None


@contextmanager
def _told_of(series: Path) -> Iterator[None]:
    """Raise what highdicom or pydicom raise as a DatasetError on the series."""
    try:
        yield
    except (FlarenetError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - an odd value may raise anything, and the text may quote the patient
        found = f"input that highdicom makes no DICOM Segmentation from ({type(error).__name__})"
        expected = "a series and label names that follow the standard"
        raise DatasetError(series, found=found, expected=expected, remedy="leave --dicom-seg out") from error


def _read(path: Path, names: Sequence[str] | None = None) -> Dataset:
    """A slice without its pixels, or only its elements `names`. Warnings are not shown: they quote values."""
    from pydicom import dcmread

    with file_in_memory(path) as stream, silent():
        return dcmread(stream, stop_before_pixels=True, specific_tags=None if names is None else list(names))


def _refuse_lacking(content: Dataset, path: Path) -> None:
    if lacking := [name for name in _NEEDED if name not in content]:
        expected = "what a DICOM Segmentation refers to"
        raise DatasetError(path, found=f"no {', '.join(lacking)}", expected=expected, remedy="leave --dicom-seg out")


def _source(path: Path, *, apart_mm: float) -> Dataset:
    """A slice without its pixels, with all elements that highdicom needs.

    apart_mm  distance to the next slice, used where the slice states no thickness
    """
    source = _read(path)
    for name in _MAY_BE_EMPTY:
        if name not in source:
            setattr(source, name, None)
    if source.get("SliceThickness") is None:  # highdicom reads no file without it
        source.SliceThickness = round(apart_mm, 6)
    return source
