"""How ambiguous files are to be read: choices that only the person at the keyboard may make, never a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..schema import Frozen


class Reading(Frozen):
    """What a person decided about files that can be read in more than one way.

    affine          which form counts where sform and qform, or the sform's sizes and pixdim, differ: "agree" refuses
                    such a file
    assume_affine   a file without sform and qform is taken as RAS with its pixdim, instead of refused
    volume          which volume of a 4D file of several is the image, counted from 0; None refuses such a file
    allow_external  paths of dataset.json may lead out of its folder
    """

    affine: Literal["agree", "sform", "qform"] = "agree"
    assume_affine: bool = False
    volume: Annotated[int, Field(ge=0)] | None = None
    allow_external: bool = False

    def of_labels(self) -> Reading:
        """How label maps are read: whichever of an image's volumes counts, they are of one."""
        return self.model_copy(update={"volume": None})

    def facts(self) -> dict[str, JsonValue]:
        """What decides what is read from a file: where files may lie does not."""
        return self.model_dump(mode="json", exclude={"allow_external"})


STRICT = Reading()
"""Nobody decided anything: what is ambiguous is refused."""
