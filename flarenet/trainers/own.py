"""Trainers by what the user types: a name of TRAINERS, or "module:Class" for a custom trainer."""

from __future__ import annotations

import importlib
import os
import sys

from ..data.names import check_name
from ..errors import RunError, UsageError, unknown
from . import TRAINERS
from .trainer import Trainer


def find_trainer(typed: str) -> type[Trainer]:
    """The trainer class that `typed` names. Modules are searched in the current folder first, as `python -m` does.

    This is the package's only import by name, and the name comes from the user, never from a file.
    Raises UsageError for a name or module that does not exist and for what is not a trainer, RunError for a module that
    fails as it is imported, and as check_own_name.
    """
    module, colon, name = typed.partition(":")
    if not colon:
        if typed not in TRAINERS:
            raise unknown("trainer", typed, TRAINERS)
        return TRAINERS[typed]
    found = getattr(_imported(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Trainer)):
        raise UsageError(f"trainer {typed}", found=repr(found), expected="a subclass of flarenet.trainers.Trainer")
    check_own_name(found, typed)
    return found


def check_own_name(trainer: type[Trainer], typed: str) -> None:
    """Raise UsageError for a trainer without a name of its own, UnsafeError for a name that no folder can have."""
    own = getattr(trainer, "name", None)
    if not isinstance(own, str) or TRAINERS.get(own, trainer) is not trainer:
        raise UsageError(f"trainer {typed}", found=f"name {own!r}", expected="its own name, which its runs get")
    check_name(own, f"trainer {typed}")


def _imported(module: str) -> object:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])
        raise (UsageError if missing else RunError)(
            f"module {module}",
            found=f"{type(error).__name__}: {error}",
            expected=f"a module that can be imported from {os.getcwd()}",
        ) from error
