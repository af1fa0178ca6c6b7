"""Synthetic, partially annotated abdominal CT for the demo, for tests and for load; every case from a seed."""

from .case import Phantom, phantom_case
from .dataset import PATTERNS, write_phantom_set

__all__ = ["PATTERNS", "Phantom", "phantom_case", "write_phantom_set"]
