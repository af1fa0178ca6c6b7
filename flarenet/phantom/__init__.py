"""Synthetic, partially annotated abdominal CT for the demo, tests and benchmarks; every case comes from a seed."""

from .case import Phantom, phantom_case
from .dataset import PATTERNS, write_phantom_set

__all__ = ["PATTERNS", "Phantom", "phantom_case", "write_phantom_set"]
