"""Names of image files, and the images of a folder."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError
from ..dataset import CHANNEL, FILE_ENDINGS
from ..folders import refuse_further_channels, stem_of


def case_name(path: str | Path) -> str:
    """X for X_0000.nii.gz, X.nii.gz, X_0000.nii and X.nii, and for the folders X_0000 and X."""
    return stem_of(Path(path).name or Path(path).resolve().name).removesuffix(CHANNEL)


def find_images(path: str | Path) -> list[Path]:
    """The images that files_by_case finds, where all are cases of one channel. Raises DatasetError as it does, and
    where one is a further channel of another, as X_0001 beside X_0000."""
    images = list(files_by_case(path).values())
    refuse_further_channels(images)
    return images


def files_by_case(path: str | Path) -> dict[str, Path]:
    """The *.nii.gz and *.nii of a folder, or one such file, by the name of the case; sorted by name, hidden files left
    out. Label maps have no channels: X_0001 is a case, whatever else is there.

    Raises DatasetError where there is none, or where two are of the same case.
    """
    path = Path(path)
    if path.is_file():
        return {case_name(path): path}
    if not path.is_dir():
        raise DatasetError(path, found="no such file or folder", expected="an image, or a folder of images")
    inside = sorted(p for p in path.iterdir() if p.name.lower().endswith(FILE_ENDINGS) and p.name[0] != ".")
    if not inside:
        count = sum(1 for _ in path.iterdir())
        found = f"a folder of {count} other entries" if count else "an empty folder"
        raise DatasetError(path, found=found, expected="images: *" + " or *".join(FILE_ENDINGS))
    seen: dict[str, Path] = {}
    for image in inside:
        twin = seen.setdefault(case_name(image).lower(), image)
        if twin is not image:
            raise DatasetError(path, found=f"{twin.name} and {image.name}", expected="one image for each case")
    return {case_name(image): image for image in inside}
