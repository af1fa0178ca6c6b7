"""flarenet_measure on commands that predict, fail, hang and are killed: real processes, a case each."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from flarenet.cli.measure import main
from flarenet.evaluation.efficiency import Sample, read_efficiency
from flarenet.evaluation.measure import thinned
from flarenet.phantom import write_phantom_set
from flarenet.reporting.efficiency import efficiency_section
from flarenet.reporting.page import write_page

COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2] + '/' + sys.argv[3])"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three small scans a_0000, b_0000, c_0000."""
    root = tmp_path_factory.mktemp("scans")
    write_phantom_set(root, cases=1, test_cases=3, seed=5, detail=0.4)
    for path, name in zip(sorted((root / "imagesTs").iterdir()), "abc"):
        path.rename(path.with_name(f"{name}_0000.nii.gz"))
    return root / "imagesTs"


def predictor(tmp_path, special=""):
    """A program in: folder of the input, folder of the output; `special` is run before, with `case` known."""
    script = tmp_path / "predict.py"
    script.write_text(
        "import os, shutil, signal, sys, time\n"
        "(name,) = os.listdir(sys.argv[1])\n"
        "case = name.split('_')[0]\n"
        "open(sys.argv[3], 'a').write(case)\n"
        f"{special}\n"
        "shutil.copy(os.path.join(sys.argv[1], name), os.path.join(sys.argv[2], case + '.nii.gz'))\n"
    )
    return [sys.executable, str(script), "{input}", "{output}", str(tmp_path / "runs")]


def measure(images, out, words, *flags):
    return main(["-i", str(images), "-o", str(out), *flags, "--", *words])


def written(out):
    return json.loads((out / "efficiency.json").read_text())


def test_each_case_has_a_process_and_a_cost(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert measure(images, out, predictor(tmp_path, "time.sleep(0.5)")) == 0
    assert (tmp_path / "runs").read_text() == "abc"
    found = written(out)
    assert list(found["cases"]) == ["a", "b", "c"] and found["failed"] == {}
    assert found["command"][2:4] == ["{input}", "{output}"] and found["device"]
    for case, cost in found["cases"].items():
        assert (out / f"{case}.nii.gz").read_bytes() == (images / f"{case}_0000.nii.gz").read_bytes()
        assert cost["seconds"] >= 0.5 and cost["peak_rss_mb"] > 1 and len(cost["samples"]) >= 2
    import nibabel

    assert found["cases"]["a"]["size"] == list(nibabel.load(images / "a_0000.nii.gz").shape)
    said = capsys.readouterr().out
    total = sum(cost["seconds"] for cost in found["cases"].values())
    assert "above 15 s: 0" in said and f"{total:.1f}" in said
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        *(f"{case}.nii.gz" for case in "abc"),
        "efficiency.json",
        "logs",
    ]


def test_the_image_itself_may_be_named(images, tmp_path):
    words = [sys.executable, "-c", COPY, "{image}", "{output}", "a.nii.gz"]
    assert measure(images / "a_0000.nii.gz", tmp_path / "out", words) == 0
    assert (tmp_path / "out" / "a.nii.gz").is_file()


FAILURES = {
    "raise SystemExit('no such weights')": ("exit code 1", "no such weights"),
    "os.kill(os.getpid(), signal.SIGKILL)": ("killed by SIGKILL",),
    "time.sleep(600)": ("not done after 3 s",),
    "raise SystemExit(0)": ("nothing in {output}", "b.nii.gz"),
    "raise SystemExit('cannot read ' + os.path.join(sys.argv[1], name))": ("cannot read ", "b_0000.nii.gz"),
}


@pytest.mark.parametrize("does, said", FAILURES.items())
def test_a_case_that_fails_is_named_and_the_others_are_done(images, tmp_path, capsys, does, said):
    out = tmp_path / "out"
    words = predictor(tmp_path, f"if case == 'b':\n    {does}")
    assert measure(images, out, words, "--timeout-s", "3") == 3
    found, shown = written(out), capsys.readouterr()
    assert list(found["cases"]) == ["a", "c"] and list(found["failed"]) == ["b"]
    assert not (out / "b.nii.gz").exists()
    for word in said:
        assert word in found["failed"]["b"] and word in shown.err
    assert str(tmp_path) not in found["failed"]["b"]
    # mended, the same command goes on with what failed
    predictor(tmp_path)
    assert measure(images, out, words) == 0
    assert (tmp_path / "runs").read_text() == "abcb" and written(out)["failed"] == {}


def test_a_page_of_what_was_measured_names_no_folder_of_the_machine(images, tmp_path, monkeypatch):
    """Whether the folders were given from the root on, or from here."""
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a_0000.nii.gz").write_bytes((images / "a_0000.nii.gz").read_bytes())
    (scans / "b_0000.nii.gz").write_bytes(b"no scan")
    monkeypatch.chdir(tmp_path)
    costs = {}
    for name, start in (("whole", tmp_path), ("from here", Path())):
        words = [sys.executable, "-c", "raise SystemExit('cannot read {image}')", "{output}"]
        assert measure(start / "scans", start / name, words) == 3
        costs[name] = read_efficiency(tmp_path / name)
        assert "cannot read" in costs[name].failed["a"] and "what to do: see logs/a.txt" in costs[name].failed["a"]
    write_page(tmp_path / "page.html", "costs", [efficiency_section(costs)])
    page = (tmp_path / "page.html").read_text()
    assert page.count("logs/a.txt") == 2 and page.count("b_0000.nii.gz") == 2 and str(tmp_path) not in page


def test_a_command_that_works_in_another_folder_finds_its_own(images, tmp_path, monkeypatch):
    """As docker's daemon does, to which OUT/inputs would not even be a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_0000.nii.gz").write_bytes((images / "a_0000.nii.gz").read_bytes())
    words = ["sh", "-c", 'cd / && cp "$1" "$2/a.nii.gz"', "sh", "{image}", "{output}"]
    assert measure(Path("a_0000.nii.gz"), Path("out"), words) == 0
    assert (tmp_path / "out" / "a.nii.gz").is_file()


def test_what_a_container_leaves_as_root_costs_no_case(images, tmp_path, monkeypatch):
    """A file and a folder that their owner alone may remove or change, whoever runs this test."""

    def refusing(call):
        def refused(path, *rest, **how):
            if os.path.basename(path) in ("left.txt", "of_root"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return call(path, *rest, **how)

        return refused

    words = predictor(tmp_path, "os.mkdir(sys.argv[2] + '/of_root'); open(sys.argv[2] + '/of_root/left.txt', 'w')")
    for name in ("unlink", "rmdir", "chmod"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    assert measure(images / "a_0000.nii.gz", tmp_path / "out", words) == 0
    assert list(written(tmp_path / "out")["cases"]) == ["a"] and (tmp_path / "out" / "a.nii.gz").is_file()


def test_of_a_long_case_some_samples_are_kept_and_every_peak(monkeypatch):
    samples = [Sample(at_s=float(n), gpu_mb=50.0 if n == 7 else 1.0, rss_mb=9.0 if n == 2 else 1.0) for n in range(11)]
    assert thinned(samples) == tuple(samples)
    monkeypatch.setattr("flarenet.evaluation.measure.MOST_SAMPLES", 4)
    assert [sample.at_s for sample in thinned(samples)] == [2.0, 3.0, 7.0, 9.0]  # of 0-2, 3-5, 6-8, 9-10


def test_a_scan_that_cannot_be_read_is_named(images, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "broken_0000.nii.gz").write_bytes(b"no scan")
    (folder / "c_0000.nii.gz").write_bytes((images / "c_0000.nii.gz").read_bytes())
    assert measure(folder, tmp_path / "out", predictor(tmp_path)) == 3
    assert list(written(tmp_path / "out")["failed"]) == ["broken"] and list(written(tmp_path / "out")["cases"]) == ["c"]


def test_what_a_header_leaves_open_is_left_to_the_command(tmp_path):
    """sform and qform 0.2 mm apart, neither of them, and two volumes: each is measured, with the size of a volume."""
    import nibabel
    import numpy as np

    scans = tmp_path / "scans"
    scans.mkdir()
    for case, volumes, code in (("apart", (), 1), ("none", (), 0), ("two", (2,), 1)):
        image = nibabel.Nifti1Image(np.zeros((5, 4, 3, *volumes), np.int16), None)
        image.set_sform(np.eye(4), code)
        image.set_qform(np.eye(4) + np.diag([0.2], 3) * (case == "apart"), code)
        nibabel.save(image, scans / f"{case}_0000.nii.gz")
    assert measure(scans, tmp_path / "out", predictor(tmp_path)) == 0
    assert {case: cost["size"] for case, cost in written(tmp_path / "out")["cases"].items()} == {
        case: [5, 4, 3] for case in ("apart", "none", "two")
    }


def test_a_prediction_may_keep_the_scans_own_spelling_of_accents(images, tmp_path):
    """As a Mac spells it, u and its dots apart; the prediction gets the case's name, and counts as done."""
    mac, usual = (unicodedata.normalize(form, "Jürg") for form in ("NFD", "NFC"))
    scan = tmp_path / "scans" / f"{mac}_0000.nii.gz"
    scan.parent.mkdir()
    scan.write_bytes((images / "a_0000.nii.gz").read_bytes())
    for _ in range(2):
        assert measure(scan.parent, tmp_path / "out", predictor(tmp_path)) == 0
    assert (tmp_path / "runs").read_text() == mac and list(written(tmp_path / "out")["cases"]) == [usual]
    assert (tmp_path / "out" / f"{usual}.nii.gz").is_file()


def test_measurements_of_two_commands_are_not_mixed(images, tmp_path, capsys):
    out, words = tmp_path / "out", predictor(tmp_path)
    assert measure(images, out, words) == 0
    assert measure(images, out, [*words, "more"]) == 2
    assert "remove this file" in capsys.readouterr().err


def test_a_prediction_of_an_earlier_command_does_not_stand_for_a_later_one(images, tmp_path):
    """Neither where the later one fails, nor beside its own of the other ending."""
    scan, out = images / "a_0000.nii.gz", tmp_path / "out"

    def copied(name):
        (out / "efficiency.json").unlink(missing_ok=True)
        assert measure(scan, out, [sys.executable, "-c", COPY, "{image}", "{output}", name]) == 0
        return [path.name for path in out.glob("a.nii*")]

    assert copied("a.nii.gz") == ["a.nii.gz"] and copied("a.nii") == ["a.nii"]
    (out / "efficiency.json").unlink()
    assert measure(scan, out, [sys.executable, "-c", "raise SystemExit(1)", "{image}", "{output}"]) == 3
    assert not list(out.glob("a.nii*"))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_scan_is_not_taken_for_an_earlier_prediction(images, tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"the only copy")
    assert measure(tmp_path / name, tmp_path, predictor(tmp_path)) == 2
    assert "an input image of that name" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"the only copy" and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "{input}"),
        (["cat", "{input}"], "{output}"),
        (["no-such-program", "{input}", "{output}"], "no such program"),
    ],
)
def test_a_command_that_cannot_work_is_refused_before_anything_runs(images, tmp_path, capsys, words, said):
    assert measure(images, tmp_path / "out", words) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_in_which_another_run_is_at_work_is_left_alone(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.lock._PATIENCE_S", 0.05)
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").write_text("4711\nanother-host\n")
    assert measure(images, out, predictor(tmp_path)) == 6
    assert "process 4711 on another-host" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"] and not (tmp_path / "runs").exists()


def test_a_measurement_that_is_ended_ends_its_command_and_goes_on_later(images, tmp_path):
    out, pid = tmp_path / "out", tmp_path / "pid"
    words = predictor(tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid()))\nif case == 'b': time.sleep(600)")
    line = [sys.executable, "-m", "flarenet.cli.measure", "-i", str(images), "-o", str(out), "--", *words]
    process = subprocess.Popen(line, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    runs, deadline = tmp_path / "runs", time.monotonic() + 60
    while not (runs.exists() and runs.read_text() == "ab") and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    predictor(tmp_path)
    assert measure(images, out, words) == 0
    assert runs.read_text() == "abbc" and list(written(out)["cases"]) == ["a", "b", "c"]
