"""Files that can be read in more than one way, which only a person decides."""

import nibabel
import numpy as np


def move_the_qform(path, mm=10.0):
    """Have the file's qform place its voxels so far beside where its sform, which stays, has them."""
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[0, 3] += mm
    written = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
    written.set_sform(image.affine, 1)
    written.set_qform(moved, 1)
    nibabel.save(written, path)
