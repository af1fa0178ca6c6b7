"""Time the --help of every command; the target is 0.2 s.

    python benchmarks/scale/help_time.py
    python benchmarks/scale/help_time.py --nnunet /path/to/its/venv    # compared with nnUNetv2_plan_and_preprocess -h

Medians of several runs, the commands in turn.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
PEER = "nnUNetv2_plan_and_preprocess"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nnunet", type=Path, metavar="VENV", help="a virtual environment that holds nnU-Net")
    arguments = parser.parse_args()
    lines = commands()
    if arguments.nnunet:
        lines[PEER] = [str(arguments.nnunet / "bin" / PEER), "-h"]
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(arguments.runs):
        for name, line in lines.items():
            began = time.perf_counter()
            subprocess.run(line, stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
            seconds[name].append(time.perf_counter() - began)
    print(f"| command | seconds, median of {arguments.runs} |\n|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} --help | {median(taken):.2f} |")
    return 0


def commands() -> dict[str, list[str]]:
    """{command: command line that runs its --help}, for every command in pyproject.toml."""
    declared = re.findall(r'^(flarenet_\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return {
        name: [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main(['--help']))"]
        for name, module in declared
    }


if __name__ == "__main__":
    sys.exit(main())
