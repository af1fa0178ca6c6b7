"""Costs of real child processes whose time, memory and processors are known, within what a busy machine needs."""

import errno
import os
import signal
import sys
import time

import psutil
import pytest

from flarenet.evaluation.efficiency import Sample
from flarenet.evaluation.gpu_memory import find_gpu
from flarenet.evaluation.process_cost import ProcessCost, run_measured

HOLDS_200_MB = "import sys, time; held = bytearray(b'x') * (200 << 20); time.sleep(float(sys.argv[1]))"


def python(script, *words):
    return [sys.executable, "-c", script, *map(str, words)]


def measured(tmp_path, words, **more):
    return run_measured(words, log=tmp_path / "log.txt", **more)


class Steps:
    """Stands for a GPU: the next of `used` at each sample, the last for ever."""

    name = "steps"

    def __init__(self, *used):
        self.used = list(used)

    def used_mb(self):
        return self.used.pop(0) if len(self.used) > 1 else self.used[0]


def test_time_and_memory_of_a_process(tmp_path):
    cost = measured(tmp_path, python(HOLDS_200_MB, 1.0))
    assert cost.exit_code == 0 and not cost.out_of_time
    assert 1.0 <= cost.seconds < 20
    assert 200 <= cost.peak_rss_mb < 300
    assert cost.gpu_peak_mb is None and cost.gpu_area_mb_s is None
    assert cost.samples[0].at_s < 1 and len(cost.samples) >= 3
    assert [sample.at_s for sample in cost.samples] == sorted(sample.at_s for sample in cost.samples)


def test_memory_of_children_counts_too(tmp_path):
    start = f"subprocess.Popen({python(HOLDS_200_MB, 1.5)!r})"
    script = f"import subprocess; [child.wait() for child in [{start} for _ in '12']]"
    cost = measured(tmp_path, python(script))
    assert cost.exit_code == 0 and 400 <= cost.peak_rss_mb < 600


def test_processors_are_those_of_the_children_too(tmp_path):
    busy = "import time\nend = time.process_time() + 1\nwhile time.process_time() < end: pass"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    cost = measured(tmp_path, python(script))
    assert 1.0 <= cost.cpu_percent / 100 * cost.seconds < 3.0  # a second of work, and two starts of Python
    idle = measured(tmp_path, python("import time; time.sleep(1)"))
    assert idle.cpu_percent < 50


def test_what_it_says_is_kept(tmp_path):
    measured(tmp_path, python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert sorted((tmp_path / "log.txt").read_text().split()) == ["err", "out"]


def test_exit_codes_and_signals(tmp_path):
    assert measured(tmp_path, python("raise SystemExit(7)")).exit_code == 7
    killed = measured(tmp_path, python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert killed.exit_code == -signal.SIGKILL and not killed.out_of_time


def left_of(file):
    """The processes, by the numbers that they wrote down, that still run."""
    pids = [int(word) for word in file.read_text().split()]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


CHILD = "import os, signal, sys, time; print(os.getpid(), file=open(sys.argv[1], 'a'), flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {CHILD}"


@pytest.mark.parametrize("child", [CHILD, DEAF])
def test_a_command_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch, child):
    monkeypatch.setattr("flarenet.evaluation.process_cost.GRACE_S", 0.5)
    pids = tmp_path / "pids"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}, {str(pids)!r}]); {child}"
    cost = measured(tmp_path, [*python(script), str(pids)], timeout_s=2.0)
    assert cost.out_of_time and 2.0 <= cost.seconds < 30
    assert len(pids.read_text().split()) == 2 and left_of(pids) == []


def test_children_that_outlive_the_command_are_ended(tmp_path):
    pids = tmp_path / "pids"
    script = (
        "import os, subprocess, sys, time\n"
        f"for apart in (False, True): subprocess.Popen([sys.executable, '-c', {CHILD!r}, {str(pids)!r}], "
        "start_new_session=apart)\n"
        f"pids = {str(pids)!r}\n"
        "while not (os.path.exists(pids) and len(open(pids).read().split()) == 2): time.sleep(0.05)\n"
        "time.sleep(0.5)"
    )
    assert measured(tmp_path, python(script)).exit_code == 0
    assert left_of(pids) == []


def test_a_command_of_another_user_is_waited_for(tmp_path, monkeypatch):
    """As sudo starts it: no signal reaches it, nor the child that it leaves, whoever runs this test."""

    def refusing(call):
        def refused(pid, number):
            if number in (signal.SIGTERM, signal.SIGKILL):
                raise PermissionError(errno.EPERM, "Operation not permitted")
            return call(pid, number)

        return refused

    for name in ("kill", "killpg"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr("flarenet.evaluation.process_cost.GRACE_S", 0.05)
    cost = measured(tmp_path, ["sh", "-c", "sleep 2 & sleep 0.7; echo done"], timeout_s=0.2)
    assert cost.out_of_time and cost.exit_code == 0 and cost.seconds >= 0.7
    assert (tmp_path / "log.txt").read_text() == "done\n"


def test_nothing_is_left_where_the_measurement_itself_is_broken_off(tmp_path):
    pids = tmp_path / "pids"

    class Broken:
        def used_mb(self):
            if pids.exists():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
            return 0.0

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, python(CHILD, pids), gpu=Broken())
    assert left_of(pids) == []


def test_a_gpu_that_answers_no_more_is_an_error_not_a_short_curve(tmp_path):
    class Lost:
        def used_mb(self):
            raise RuntimeError("GPU is lost")

    with pytest.raises(RuntimeError, match="GPU is lost"):
        measured(tmp_path, python("import time; time.sleep(0.3)"), gpu=Lost())


def test_area_and_peak_are_those_of_the_curve():
    samples = tuple(Sample(at_s=at / 10, gpu_mb=mb, rss_mb=1) for at, mb in enumerate((100.0, 300.0, 200.0)))
    cost = ProcessCost(0.25, 100.0, samples, 0, False)
    assert cost.gpu_peak_mb == 300
    assert cost.gpu_area_mb_s == pytest.approx(100 * 0.1 + 300 * 0.1 + 200 * 0.05)


def test_gpu_memory_is_sampled_beside_that_of_the_processes(tmp_path):
    cost = measured(tmp_path, python("import time; time.sleep(1)"), gpu=Steps(10.0, 500.0, 20.0))
    assert cost.gpu_peak_mb == 500 and [sample.gpu_mb for sample in cost.samples][:3] == [10, 500, 20]
    assert 20 * cost.seconds < cost.gpu_area_mb_s < 500 * cost.seconds


def test_a_gpu_is_found_only_where_there_is_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpu() is None


@pytest.mark.gpu
def test_a_real_gpu_says_how_much_of_it_is_used():
    found = find_gpu()
    if found is None:
        pytest.skip("no GPU")
    assert found.name and found.used_mb() >= 0
