"""NIfTI files, read strictly and written exactly: the only place that knows x-y-z order and headers.

    stream.py      bytes, out of gzip or not, to the last one
    header.py      fields, checked before memory is taken
    geometry.py    where the voxels lie
    voxels.py      stored numbers to the type that is needed
    read.py        images and label maps
    image_file.py  an image plane by plane
    write.py       label maps
    channels.py    probabilities of several labels, slice by slice

Fields and rules: the NIfTI-1 and NIfTI-2 standards (nifti1.h, nifti2.h, https://nifti.nimh.nih.gov).
"""

from .channels import channels_file
from .image_file import ImageFile, inspect_file
from .read import inspect_image, inspect_labels, read_grid, read_image, read_labels
from .write import labels_file, write_labels

__all__ = [
    "ImageFile",
    "channels_file",
    "inspect_file",
    "inspect_image",
    "inspect_labels",
    "labels_file",
    "read_grid",
    "read_image",
    "read_labels",
    "write_labels",
]
