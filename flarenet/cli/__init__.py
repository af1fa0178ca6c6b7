"""The commands, a file each. None of them starts on a system other than Linux."""

import sys

from ..errors import StorageError

if sys.platform != "linux":  # said here, before the imports of a command fail for want of a part of Python
    remedy = "run flarenet in a container or a virtual machine with Linux"
    problem = StorageError("this system", found=sys.platform, expected="linux", remedy=remedy)
    print(f"flarenet: {problem}", file=sys.stderr)
    raise SystemExit(problem.exit_code)
