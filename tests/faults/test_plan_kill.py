"""flarenet_plan, killed while it writes what it decided, leaves after the same command the files of an unbroken run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.preparation.kill import NAME, content_of
from flarenet.phantom import write_phantom_set
from flarenet.whole import FAILPOINT
from tests.trainers.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
KILLED = -9

STAGES = ("splits.json:half", "plan.json:half", "dataset.json:half")
PLAN = f"""
import json, os, sys
from pathlib import Path
import flarenet.trainers.plan_set  # what a plan takes longest to import
from flarenet.cli.plan import main

def planned(root, stage=None):
    process = os.fork()
    if process == 0:
        if stage:
            os.environ[{FAILPOINT!r}] = stage
        os._exit(main(["-d", {NAME!r}, "--root", str(root), "--workers", "1", "--set", *{TINY}]))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

folder, codes = Path(sys.argv[1]), [planned(Path(sys.argv[1]) / "unbroken")]
for number, stage in enumerate({STAGES}):
    codes += [planned(folder / str(number), stage), planned(folder / str(number))]
print(json.dumps(codes))
"""
"""A process for each run, all of one that has imported everything."""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(a folder with a root for each of STAGES and for the unbroken run, the exit codes)."""
    folder = tmp_path_factory.mktemp("planned")
    write_phantom_set(folder / "raw", cases=3, test_cases=0, seed=0, detail=0.5)
    for name in ("unbroken", *map(str, range(len(STAGES)))):
        (folder / name / "raw").mkdir(parents=True)
        (folder / name / "raw" / NAME).symlink_to(folder / "raw", target_is_directory=True)
    line = [sys.executable, "-c", PLAN, str(folder)]
    said = subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    return folder, json.loads(said.splitlines()[-1])


def test_every_kill_hit_and_every_second_run_ended_well(done):
    assert done[1] == [0, *[KILLED, 0] * len(STAGES)]


@pytest.mark.parametrize("number", range(len(STAGES)), ids=STAGES)
def test_killed_and_run_again(done, number):
    folder, _ = done
    wanted = content_of(folder / "unbroken")
    assert {"fingerprint.json", "splits.json", "plan.json", "dataset.json"} <= wanted.keys()
    assert content_of(folder / str(number)) == wanted
