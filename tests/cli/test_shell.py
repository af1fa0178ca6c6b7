"""The exit codes of every command, and that an error is a message and no traceback."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flarenet.cli.report import make_parser as report_parser
from flarenet.cli.shell import add_device, add_planned, add_pool, new_parser, path, pool, run
from flarenet.cli.train import main as train
from flarenet.data.cases import Pool
from flarenet.errors import CasesFailed, DatasetError, StorageError, UnsafeError, UsageError

ROOT = Path(__file__).resolve().parents[2]


class OutOfMemoryError(RuntimeError):
    """Stands for torch.cuda.OutOfMemoryError, which bears this name."""


def fail(error):
    def work(arguments):
        raise error

    return work


def run_it(work, *words):
    return run(new_parser("flarenet_x", "For tests."), work, words)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ZeroDivisionError("division by zero"), 1, "a bug in flarenet: ZeroDivisionError: division by zero"),
        (ValueError("one\ntwo\nthree"), 1, "ValueError: one (where: --debug)"),
        (AssertionError(), 1, "AssertionError"),
        (UsageError("-o x", found="nothing"), 2, "-o x\n  found: nothing"),
        (CasesFailed("2 of 9"), 3, "2 of 9"),
        (DatasetError("x.nii"), 4, "x.nii"),
        (StorageError("x.nii"), 5, "x.nii"),
        (MemoryError(), 5, "not enough memory"),
        (OutOfMemoryError("CUDA out of memory"), 5, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "not enough memory"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), 5, "; or --precision fp32"),
        (PermissionError(13, "Permission denied", "/x"), 5, "Permission denied: '/x'"),
        (OSError(28, "No space left on device"), 5, "No space left on device"),
        (UnsafeError("x.pkl"), 7, "x.pkl"),
        (KeyboardInterrupt(), 130, "interrupted; the same command resumes from here"),
    ],
)
def test_what_goes_wrong_is_a_message_and_a_code(capsys, error, code, said):
    assert run_it(fail(error)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("flarenet_x: ") and said in err and "Traceback" not in err
    assert err.count("\n") == 1 + str(said).count("\n")


def test_debug_shows_where(capsys):
    assert run_it(fail(ZeroDivisionError()), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_nothing_wrong_is_zero():
    assert run_it(lambda arguments: None) == 0


def test_words_that_do_not_fit_are_usage(capsys):
    with pytest.raises(SystemExit) as end:
        run_it(lambda arguments: None, "--nonsense")
    assert end.value.code == 2
    assert "--nonsense" in capsys.readouterr().err


def test_a_flag_is_not_abbreviated_and_one_that_nnunet_spells_otherwise_is_named(capsys):
    for given in ([], ["child"]):
        parser = new_parser("flarenet_x", "For tests.")
        inner = parser.add_subparsers().add_parser("child") if given else parser
        inner.add_argument("--compile", action="store_true")
        with pytest.raises(SystemExit) as end:
            run(parser, lambda arguments: None, [*given, "--c"])
        said = capsys.readouterr().err
        assert end.value.code == 2 and "unrecognized arguments: --c; " in said and "docs/from-nnunet.md" in said


def test_the_device_may_be_spelled_as_by_nnunet():
    parser = new_parser("flarenet_x", "For tests.")
    add_planned(parser)
    add_device(parser)
    for given, device in (([], "auto"), (["-device", "cpu"], "cpu"), (["--device", "cuda:1"], "cuda:1")):
        found = parser.parse_args(["-d", "A", *given])
        assert (found.dataset, found.device) == ("A", device)
    assert parser.parse_args(["-dA"]).dataset == "A"


def test_the_flags_of_a_pool():
    parser, seen = new_parser("flarenet_x", "For tests."), []
    add_pool(parser, workers=3)
    run(parser, lambda arguments: seen.append(pool(arguments)), [])
    run(parser, lambda arguments: seen.append(pool(arguments)), ["--timeout-s", "2.5", "--scheduler", "tcp://a:1"])
    assert seen == [Pool(3), Pool(3, timeout_s=2.5, scheduler="tcp://a:1")]


@pytest.mark.parametrize("main", [train, lambda words: run(_with_pool(), print, words)], ids=["train", "pool"])
def test_workers_below_zero_are_refused(main, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--workers", "-1"])
    assert end.value.code == 2 and "--workers: '-1' is not a whole number from 0 on" in capsys.readouterr().err


def _with_pool():
    parser = new_parser("flarenet_x", "For tests.")
    add_pool(parser)
    return parser


@pytest.mark.parametrize("there, used", [(3, 3), (64, 8)])
def test_every_processor_works_on_cases_but_at_most_eight(monkeypatch, there, used):
    monkeypatch.setattr("flarenet.cli.shell.processors", lambda: there)
    scoring = ["-p", "a", "-g", "b", "-d", "c", "-o", "d"]
    assert pool(report_parser().parse_args(scoring)) == Pool(used)


def test_a_path_leads_to_the_same_file_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert [path(word) for word in ("a/b", "~/c", "/d")] == [tmp_path / "a" / "b", Path("/home/me/c"), Path("/d")]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_number_of_seconds(capsys, seconds):
    parser = new_parser("flarenet_x", "For tests.")
    add_pool(parser, workers=1)
    with pytest.raises(SystemExit) as end:
        run(parser, lambda arguments: None, [f"--timeout-s={seconds}"])
    assert end.value.code == 2 and "above 0" in capsys.readouterr().err


COMMAND = """
import sys, time
from flarenet.cli.shell import new_parser, run
def work(arguments):
    print("begun", flush=True)
    {work}
sys.exit(run(new_parser("flarenet_x", "For tests."), work, sys.argv[1:]))
"""


def start(work, *words):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", COMMAND.format(work=work), *words], **pipes)


@pytest.mark.parametrize(("ending", "code", "said"), [(signal.SIGTERM, 75, "SIGTERM"), (signal.SIGINT, 130, "interr")])
def test_a_signal_ends_a_command_with_its_code(ending, code, said):
    with start("time.sleep(60)") as process:
        process.stdout.readline()
        process.send_signal(ending)
        _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert said in err and "resumes from here" in err and "Traceback" not in err


def test_a_file_name_that_is_no_utf8_is_printed_with_escapes(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert run_it(lambda arguments: print(os.fsdecode(b"M\xfcller"), "Zoë")) == 0
    assert out.buffer.getvalue() == rb"M\udcfcller " + "Zoë\n".encode()


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_a_reader_that_leaves_is_no_matter_for_words(words):
    """As in `flarenet_x | head -1`."""
    with start("print('x' * 1_000_000)", *words) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert err == ""
    assert process.returncode == (0 if words else 5)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_on_another_system_than_linux_a_command_says_so_in_place_of_a_traceback(system):
    program = f"import sys; sys.platform = {system!r}; from flarenet.cli.plan import main"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == StorageError.exit_code == 5
    assert done.stderr.startswith(f"flarenet: this system\n  found: {system}\n  expected: linux\n")
