"""Model folders made to do harm, or damaged: exit code 7 from every command that opens one, as for model files.

The names of the tests carry the attack's number, as in test_attacks.py; S01 is tested there.
"""

import json
import os
import pickle
import sys

import pytest
import torch

from flarenet.cli.model import main
from flarenet.cli.predict import main as predict
from tests.model_files.small import digest, files_below, resealed
from tests.model_files.test_attacks import BAD_WEIGHTS, HOSTILE, too_much


@pytest.fixture
def refused_folder(root, tmp_path, capsys):
    """A check that a model folder, changed by `change`, is refused by every command that opens it; returns what was
    said. With `seal` the digests are made right again."""
    folder = root / "runs" / "Toy" / "Toy2D" / "step_2"
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    (scans / "a.nii.gz").write_bytes(b"never read: the model comes first")

    def check(change, *, seal=False):
        change(folder)
        if seal:
            about = json.loads((folder / "about.json").read_text())
            about["sha256"] = {name: digest((folder / name).read_bytes()) for name in about["sha256"]}
            (folder / "about.json").write_bytes(resealed(about))
        capsys.readouterr()
        before = files_below(tmp_path)
        assert predict(["-i", str(scans), "-o", str(out), "-m", str(folder), "--device", "cpu"]) == 7
        said = capsys.readouterr().err
        assert main(["--root", str(root), "export", str(folder), str(tmp_path / "new.zip")]) == 7
        if not seal:  # this command looks at digests alone
            assert main(["--root", str(root), "info", str(folder)]) == 7
        assert files_below(tmp_path) == before and "Traceback" not in said + capsys.readouterr().err
        for path in folder.iterdir():
            path.unlink()
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        return said

    return check


def part_changed(name, change):
    """A change of a folder: what `change` makes of the bytes of one of its files."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    "name, where",
    [
        ("weights.safetensors", b'"'),  # in its header
        ("plan.json", b'"'),
        ("about.json", b'"'),
        ("about.json", b"case_1"),  # which the model learned from; "gase_1" would count as unseen
    ],
)
def test_s08_one_bit_of_any_file_of_a_folder(refused_folder, name, where):
    def flipped(content):
        changed = bytearray(content)
        changed[changed.index(where)] ^= 4
        return bytes(changed)

    assert name in refused_folder(part_changed(name, flipped))


def test_s04_names_of_code_in_the_files_of_a_folder(refused_folder):
    def planned(name):
        def change(content):
            plan = json.loads(content)
            plan["trainers"]["Toy2D"]["network"]["kind"] = name
            return json.dumps(plan).encode()

        return change

    def trained(name):
        return lambda content: json.dumps({**json.loads(content), "trainer": name}).encode()

    loaded = set(sys.modules)
    for name in HOSTILE:
        refused_folder(part_changed("plan.json", planned(name)), seal=True)
        refused_folder(part_changed("about.json", trained(name)), seal=True)
    assert not {name for name in set(sys.modules) - loaded if not name.startswith(("flarenet", "torch"))}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_s09_weights_that_are_none_in_a_folder(refused_folder, kind):
    refused_folder(part_changed("weights.safetensors", BAD_WEIGHTS[kind]), seal=True)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
@pytest.mark.parametrize("name", ["weights.safetensors", "plan.json", "about.json"])
def test_s11_a_link_to_anything_else_is_no_part_of_a_folder(refused_folder, tmp_path, name):
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"mine, and nobody else's")

    def linked(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(victim)

    said = refused_folder(linked)
    assert victim.read_bytes() == b"mine, and nobody else's" and "nobody else" not in said


@pytest.mark.parametrize("name", ["plan.json", "about.json"])
@pytest.mark.parametrize("kind", ["deep", "long number", "large", "same key twice", "NaN", "no UTF-8", "empty"])
def test_s13_json_that_is_too_much_in_a_folder(refused_folder, name, kind):
    refused_folder(part_changed(name, lambda _: too_much(kind)), seal=name == "plan.json")


def test_s03_what_no_safe_reader_takes_is_given_to_no_other(refused_folder, monkeypatch):
    def sings(*_, **__):
        raise AssertionError("a file that was refused went to pickle")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, sings)
    for kind in ("truncated", "no JSON", "unknown dtype"):
        refused_folder(part_changed("weights.safetensors", BAD_WEIGHTS[kind]), seal=True)
    refused_folder(part_changed("weights.safetensors", lambda _: pickle.dumps({"weights": [1.0]})), seal=True)
