"""A disk without room."""

import resource
from contextlib import contextmanager


@contextmanager
def longest_file(size):
    """No file can grow longer, as on a full disk. To be left at once: pytest writes a log too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
