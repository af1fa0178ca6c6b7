"""How ambiguous files are to be read: choices that only the person at the keyboard may make, never a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..schema import Frozen


class Reading(Frozen):
    """What a person decided about files that can be read in more than one way.

    affine          which form counts where sform and qform differ, or the sform's sizes and pixdim; "agree": such a
                    file is refused
    assume_affine   whether a file without sform and qform is taken as RAS with its pixdim; else it is refused
    volume          which volume of a 4D file is the image, counted from 0; None: a file of several volumes is refused
    allow_external  whether paths of dataset.json may lead out of its folder
    """

    affine: Literal["agree", "sform", "qform"] = "agree"
    assume_affine: bool = False
    volume: Annotated[int, Field(ge=0)] | None = None
    allow_external: bool = False

    def of_labels(self) -> Reading:
        """How label maps are read: they have one volume, whichever of the image's volumes counts."""
        return self.model_copy(update={"volume": None})

    def facts(self) -> dict[str, JsonValue]:
        """What decides what is read from a file; where files may lie does not."""
        return self.model_dump(mode="json", exclude={"allow_external"})


STRICT = Reading()
"""Nobody decided anything: what is ambiguous is refused."""
