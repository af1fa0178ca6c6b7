"""The commands, one per file. They run on Linux only."""

import sys

from ..errors import StorageError

if sys.platform != "linux":  # checked here, before a command's imports fail for lack of a Linux-only module
    remedy = "run flarenet in a container or a virtual machine with Linux"
    problem = StorageError("this system", found=sys.platform, expected="linux", remedy=remedy)
    print(f"flarenet: {problem}", file=sys.stderr)
    raise SystemExit(problem.exit_code)
