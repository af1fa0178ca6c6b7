"""Model files made to do harm. Every one ends with exit code 7 and leaves nothing: no file, no change, no import.

The names of the tests carry the attack's number:

S01  pickled code under any name             S06  zip bombs
S04  names of code in a plan                 S07  a model over another one
S05  members that leave the folder           S08  what the manifest does not say
S09  weights that are none                   S11  links where something is written
S13  JSON too large, too deep, too long      (S15, names of people and places: test_model_command.py)
"""

import json
import os
import stat
import struct
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch

from flarenet.cli.model import main
from flarenet.cli.predict import main as predict
from flarenet.errors import FlarenetError, UnsafeError
from flarenet.inference.models import archive
from flarenet.inference.models.about import describe, read_about
from flarenet.inference.models.model import load_encoder, load_model, load_weights
from flarenet.inference.models.model_file import install
from tests.canary import canary_files
from tests.model_files.small import files_below, members_of, sealed, zipped

WEIGHTS, PLAN, ABOUT = (f"step_2/{name}" for name in ("weights.safetensors", "plan.json", "about.json"))
MB = 1 << 20


@pytest.fixture
def members(model_file):
    """The members of a sound model file."""
    return members_of(model_file)


@pytest.fixture
def refused(tmp_path, capsys):
    """A check that installing a file fails and leaves nothing behind; returns what was said."""
    root = tmp_path / "victim"
    root.mkdir()

    def check(file):
        before, loaded = files_below(tmp_path), set(sys.modules)
        capsys.readouterr()
        assert main(["--root", str(root), "install", str(file)]) == 7
        assert files_below(tmp_path) == before and not list(root.glob("models/*")) + list(root.glob("models/.*"))
        assert not {name for name in set(sys.modules) - loaded if not name.startswith(("flarenet", "torch"))}
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return check


def test_s01_pickled_code_is_not_run_by_any_load_path(root, members, refused, tmp_path):
    canary, scans = tmp_path / "canary", tmp_path / "scans"
    scans.mkdir()
    (scans / "a.nii.gz").write_bytes(b"never read: the model comes first")
    files = canary_files(canary)
    assert len(files) == 12
    for number, (name, content) in enumerate(files.items()):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)  # as the model file
        for member in (name, WEIGHTS, PLAN, ABOUT):  # as a member, sealed
            file = zipped(sealed({**members, member: content}).items(), tmp_path / f"{number}.zip")
            refused(file)
        model = root / "runs" / "Toy" / "Toy2D" / "step_2"
        for part in ("weights.safetensors", "plan.json", "about.json"):  # in a model folder
            kept = (model / part).read_bytes()
            (model / part).write_bytes(content)
            encoder = partial(load_encoder, torch.nn.Module())
            for load in (load_model, load_weights, read_about, describe, encoder):
                try:
                    load(model)
                except FlarenetError:
                    pass
            assert predict(["-i", str(scans), "-o", str(tmp_path / "out"), "-m", str(model)]) == 7
            (model / part).write_bytes(kept)
        assert not canary.exists(), name


HOSTILE = (
    *(
        "os.system",
        "subprocess.Popen",
        "../x",
        "__class__",
        "builtins.eval",
        "pickle.loads",
        "torch.load",
        "posix.system",
    ),
    *("flarenet.cli.model:main", "antigravity", "this", "__import__", "importlib.import_module", "/etc/passwd"),
    *("unet.__init__", "dual_decoder;id", "$(id)", "`id`", "unet\u0000", "{0.__class__}"),
)


@pytest.mark.parametrize("place", ["network", "trainer", "fusion", "normalisation", "precision", "schedule", "recipe"])
def test_s04_names_in_a_plan_name_nothing_but_flarenets_own(members, refused, tmp_path, place):
    for name in HOSTILE:
        plan = json.loads(members[PLAN])
        part = plan["trainers"]["Toy2D"]
        spots = {
            "network": (part["network"], "kind"),
            "trainer": (part, "configuration"),
            "fusion": (plan["fusion"], "rule"),
            "normalisation": (plan["configurations"]["2d"], "normalisation"),
            "precision": (plan, "precision"),
            "schedule": (part["steps"][0], "schedule"),
            "recipe": (plan, "recipe"),
        }
        node, key = spots[place]
        node[key] = name
        changed = sealed({**members, PLAN: json.dumps(plan).encode()})
        refused(zipped(changed.items(), tmp_path / "hostile.zip"))


@pytest.mark.parametrize(
    "change",
    [
        {"features": [10**12] * 6},
        {"features": [1 << 17] * 6},
        {"input_channels": 10**15},
        {"kind": "residual_unet", "blocks": [10**9, 1, 1, 1, 1]},
        {"kind": "unetr", "dimensions": 3, "features": [48, 8, 10**9, 6, 4]},
        {"kind": "mae_vit", "dimensions": 3, "features": [48, 8, 2, 6, 48, 8, 10**9, 6], "groups": []},
        {"deep_supervision": 10**9},
    ],
)
def test_s04_a_network_without_end_is_not_built(members, refused, tmp_path, change):
    plan = json.loads(members[PLAN])
    plan["trainers"]["Toy2D"]["network"] |= change
    if change.get("dimensions") == 3:
        plan["configurations"]["2d"]["patch"] = [32, 32, 32]
    plan["budget"] |= {"gpu_memory_gb": 1e30, "host_memory_gb": 1e30, "inference_memory_gb": 1e30}
    file = zipped(sealed({**members, PLAN: json.dumps(plan).encode()}).items(), tmp_path / "endless.zip")
    refused(file)  # after which all that is imported late is there
    began = time.process_time()
    with pytest.raises(UnsafeError):
        install(file, tmp_path / "home")
    assert time.process_time() - began <= 1  # it would take hours


def entry(name, mode=None, flags=0):
    made = zipfile.ZipInfo("x")
    made.filename = made.orig_filename = name
    if mode is not None:
        made.create_system, made.external_attr = 3, mode << 16
    made.flag_bits |= flags
    return made


OUTSIDE = {
    "parent": "../owned.txt",
    "parent below": "step_2/../../../owned.txt",
    "absolute": "/tmp/owned.txt",
    "backslash": "..\\owned.txt",
    "drive": "C:\\owned.txt",
    "double slash": "//owned/owned.txt",
    "dot": "./manifest.json",
    "trailing dot": "manifest.json.",
    "NUL": "manifest.json\0../owned.txt",
    "newline": "manifest.json\n",
    "5000 characters": "step_2/" + "x" * 5000,
    "case twin": "STEP_2/plan.json",
    "full-width digit": "step_\uff12/plan.json",
    "home": "~/.bashrc",
    "nested": "step_2/inner.zip",
    "folder": "step_2/",
    "code": "step_2/__init__.py",
    "start-up code": "sitecustomize.py",
    "one more dot": "LICENCE_txt",
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_s05_other_names(members, refused, tmp_path, kind):
    content = [*members.items(), (entry(OUTSIDE[kind]), b"owned")]
    for order in (content, content[::-1]):
        refused(zipped(order, tmp_path / "outside.zip"))
    assert not Path("/tmp/owned.txt").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_s05_links_devices_and_folders_under_a_right_name(members, refused, tmp_path, mode):
    for name in (LICENCE, WEIGHTS):
        left = [(key, value) for key, value in members.items() if key != name]
        refused(zipped([*left, (entry(name, mode | 0o777), b"/etc/passwd")], tmp_path / "link.zip"))


LICENCE = "LICENCE.txt"


def test_s05_the_same_name_twice(members, refused, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = zipped([*members.items(), (PLAN, members[PLAN])], tmp_path / "twice.zip")
    assert "twice" in refused(file)


def changed_bytes(file, edit):
    content = bytearray(file.read_bytes())
    edit(content)
    file.write_bytes(content)
    return file


def headers_of(file, name):
    """Where the local header and the central entry of a member begin."""
    content = file.read_bytes()
    word = name.encode()
    return content.index(word) - 30, content.rindex(word) - 46


def test_s05_encrypted_members(model_file, refused):
    local, central = headers_of(model_file, LICENCE)

    def edit(content):
        content[local + 6] |= 1
        content[central + 8] |= 1

    assert "encrypted" in refused(changed_bytes(model_file, edit))


@pytest.mark.parametrize("size", [0, 1, 10_000, 10_669, 20_000, 3 << 30])
def test_s05_a_size_that_lies(model_file, refused, size):
    local, central = headers_of(model_file, WEIGHTS)

    def edit(content):
        content[local + 22 : local + 26] = content[central + 24 : central + 28] = struct.pack("<L", size)

    refused(changed_bytes(model_file, edit))


def test_s05_overlapping_members(model_file, refused):
    """The quoted overlap of Fifield: two entries of the directory point to the same bytes."""
    first, second = (headers_of(model_file, name) for name in ("fold_1/" + PLAN, PLAN))

    def edit(content):
        content[second[1] + 42 : second[1] + 46] = struct.pack("<L", first[0])

    assert "one behind the other" in refused(changed_bytes(model_file, edit))


def test_s05_a_local_name_that_differs(model_file, refused):
    local, _ = headers_of(model_file, LICENCE)

    def edit(content):
        content[local + 30 : local + 41] = b"../CENCE.tx"

    refused(changed_bytes(model_file, edit))


@pytest.mark.parametrize("where", ["before", "behind", "comment", "gap"])
def test_s05_more_than_a_zip_file(model_file, refused, where):
    content = model_file.read_bytes()
    directory = int.from_bytes(content[-6:-2], "little")
    script = b"#!/bin/sh\ntouch owned\n"
    made = {
        "before": script + content,
        "behind": content + script,
        "comment": content[:-2] + struct.pack("<H", len(script)) + script,
        "gap": content[:directory] + script + content[directory:-6] + struct.pack("<LH", directory, 0),
    }
    model_file.write_bytes(made[where])
    refused(model_file)


@pytest.mark.parametrize(
    "behind, said", [("manifest.json", "members one behind the other"), (WEIGHTS, "right behind its members")]
)
def test_s05_bytes_between_members_whose_places_are_right(members, refused, tmp_path, behind, said):
    """The second of these is the last member: the bytes lie between it and the directory."""
    file = tmp_path / "between.zip"
    assert list(members)[-1] == WEIGHTS
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
            if name == behind:
                archive.fp.write(b"#!/bin/sh\ntouch owned\n")
                archive.start_dir = archive.fp.tell()  # where the next member is written, or the directory
    assert said in refused(file)


def test_s06_bombs_are_refused_before_they_are_unpacked(members, tmp_path, refused):
    zeros = {**members, WEIGHTS: bytes(200 * MB)}
    file = zipped(zeros.items(), tmp_path / "zeros.zip", zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < MB
    assert "200 times" in refused(file)
    words = {**members, LICENCE: os.urandom(MB + 1)}
    assert f"at most {MB}" in refused(zipped(words.items(), tmp_path / "words.zip"))


def test_s06_a_bomb_takes_no_memory(members, tmp_path):
    zeros = {**members, WEIGHTS: bytes(200 * MB)}
    file = zipped(zeros.items(), tmp_path / "zeros.zip", zipfile.ZIP_DEFLATED)
    many = tmp_path / "many.zip"
    many.write_bytes(directory_of(60_000))
    for bomb in (file, many):
        assert growth_mb(f"install(Path({str(bomb)!r}), Path({str(tmp_path / 'home')!r}))") < 100


def directory_of(entries, claimed=None):
    """A zip file that is nothing but a directory of so many empty members."""
    record = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0)
    directory = (record + b"manifest.json") * entries
    count = min(entries if claimed is None else claimed, 0xFFFF)
    return directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), 0, 0)


@pytest.mark.parametrize("entries, claimed", [(1001, None), (60_000, None), (60_000, 8), (100_000, None)])
def test_s06_many_members(tmp_path, refused, entries, claimed):
    file = tmp_path / "many.zip"
    file.write_bytes(directory_of(entries, claimed))
    assert "members" in refused(file)


def test_s06_more_in_all_than_allowed(model_file, refused, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", model_file.stat().st_size // 2)
    assert "in all" in refused(model_file)


def test_s06_the_64_bit_records_are_not_believed(model_file, refused):
    content = model_file.read_bytes()
    size, offset = struct.unpack("<2L", content[-10:-2])
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 8, 8, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(content) - 22, 1)
    model_file.write_bytes(content[:-22] + end + locator + content[-22:])
    refused(model_file)


def test_s07_a_model_is_never_replaced(root, model_file, tmp_path, members):
    main(["--root", str(root), "install", str(model_file)])
    before = files_below(root)
    other = zipped(sealed({**members, LICENCE: b"other"}).items(), tmp_path / "other.zip")
    assert main(["--root", str(root), "install", str(other)]) == 2
    broken = zipped({**members, LICENCE: b"other"}.items(), tmp_path / "broken.zip")
    assert main(["--root", str(root), "install", str(broken)]) == 7
    assert files_below(root) == before


@pytest.mark.parametrize("name", ["manifest.json", LICENCE, WEIGHTS, PLAN, ABOUT])
def test_s08_one_bit_of_any_member(members, refused, tmp_path, name):
    content = bytearray(members[name])
    content[len(content) // 2] ^= 4
    refused(zipped({**members, name: bytes(content)}.items(), tmp_path / "bit.zip"))


def test_s08_extra_missing_and_swapped_members(members, refused, tmp_path):
    file = tmp_path / "m.zip"
    third = {name.replace("step_2", "fold_2/step_2"): members[name] for name in (WEIGHTS, PLAN, ABOUT)}
    refused(zipped({**members, **third}.items(), file))  # a fold that the manifest does not list
    for name in members:
        left = {key: value for key, value in members.items() if key != name}
        refused(zipped(left.items(), file))
        if name != "manifest.json":
            refused(zipped(sealed(left).items(), file))
    swapped = {**members, WEIGHTS: members["fold_1/" + WEIGHTS]}
    refused(zipped(swapped.items(), file))
    manifest = json.loads(members["manifest.json"])
    manifest["files"][WEIGHTS] = manifest["files"]["fold_1/" + WEIGHTS]
    refused(zipped({**swapped, "manifest.json": json.dumps(manifest).encode()}.items(), file))  # about.json knows


def test_s08_a_licence_that_is_no_utf8(root, model_file, members, refused, tmp_path, capsys):
    latin = "Nur für Forschung".encode("latin-1")
    file = zipped(sealed({**members, LICENCE: latin}).items(), tmp_path / "m.zip")
    assert "LICENCE.txt" in (said := refused(file)) and "expected: text in UTF-8" in said
    # in a folder that was changed later, or installed by an earlier version
    assert main(["--root", str(root), "install", str(model_file)]) == 0
    (root / "models" / "toy" / LICENCE).write_bytes(latin)
    for words in (["info", "toy"], ["info", str(file)], ["export", "toy", str(tmp_path / "again.zip")]):
        capsys.readouterr()
        assert main(["--root", str(root), *words]) == 7
        assert "expected: text in UTF-8" in capsys.readouterr().err
    words = ["--licence", "CC BY 4.0"]
    assert main(["--root", str(root), "export", "toy", str(tmp_path / "again.zip"), *words]) == 0


@pytest.mark.parametrize("name", ["../x", ".hidden", "", "a/b", "x" * 65, "a\nb", "-m"])
def test_s08_a_name_that_is_none(members, refused, tmp_path, name):
    manifest = {**json.loads(members["manifest.json"]), "name": name}
    refused(zipped({**members, "manifest.json": json.dumps(manifest).encode()}.items(), tmp_path / "m.zip"))


def with_header(content, edit):
    """Weights with another header, which `edit` makes of the text of the old one."""
    length = int.from_bytes(content[:8], "little")
    header = edit(content[8 : 8 + length].decode()).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def first(header):
    """The name of a header's first tensor."""
    return next(name for name in json.loads(header) if name != "__metadata__")


def entry_changed(header, **changes):
    read = json.loads(header)
    read[first(header)] |= changes
    return json.dumps(read)


BAD_WEIGHTS = {
    "empty": lambda w: b"",
    "truncated": lambda w: w[:-4],
    "truncated header": lambda w: w[:100],
    "header of 2^62 bytes": lambda w: struct.pack("<Q", 1 << 62) + w[8:],
    "header of 2^64 bytes": lambda w: b"\xff" * 8 + w[8:],
    "no JSON": lambda w: with_header(w, lambda h: h.rstrip()[:-1]),
    "a list": lambda w: with_header(w, lambda h: "[1, 2]"),
    "strings for tensors": lambda w: with_header(w, lambda h: json.dumps(dict.fromkeys(json.loads(h), "x"))),
    "overlap": lambda w: with_header(w, lambda h: entry_changed(h, data_offsets=[4, 8])),
    "backwards": lambda w: with_header(w, lambda h: entry_changed(h, data_offsets=[8, 0])),
    "beyond": lambda w: with_header(w, lambda h: entry_changed(h, data_offsets=[0, 1 << 60])),
    "negative": lambda w: with_header(w, lambda h: entry_changed(h, data_offsets=[-8, 0])),
    "the same name twice": lambda w: with_header(w, lambda h: h.replace("{", f'{{"{first(h)}":{{"dtype":"F32"}},', 1)),
    "wrong dtype": lambda w: with_header(w, lambda h: h.replace('"F32"', '"I32"', 1)),
    "unknown dtype": lambda w: with_header(w, lambda h: h.replace('"F32"', '"os.system"', 1)),
    "wrong shape": lambda w: with_header(w, lambda h: entry_changed(h, shape=[1, 1])),
    "shape of 2^62": lambda w: with_header(w, lambda h: entry_changed(h, shape=[1 << 62])),
    "float shape": lambda w: with_header(w, lambda h: entry_changed(h, shape=[2.0])),
    "more at the end": lambda w: w + bytes(100),
    "a million tensors": lambda w: with_header(
        w,
        lambda h: (
            h.rstrip()[:-1]
            + "".join(f',"t{n}":{{"dtype":"F32","shape":[],"data_offsets":[0,0]}}' for n in range(10**6))
            + "}"
        ),
    ),
    "NaN": lambda w: w[:-4] + struct.pack("<f", float("nan")),
    "infinity": lambda w: w[:-4] + struct.pack("<f", float("-inf")),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_s09_weights_that_are_none(members, refused, tmp_path, kind):
    changed = BAD_WEIGHTS[kind](members[WEIGHTS])
    assert changed != members[WEIGHTS]
    refused(zipped(sealed({**members, WEIGHTS: changed}).items(), tmp_path / "m.zip"))


def test_s09_weights_of_another_network_are_refused_before_memory_is_taken(root):
    model = root / "runs" / "Toy" / "Toy2D" / "step_2"
    weights = model / "weights.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [100 * MB], "data_offsets": [0, 400 * MB]}}).encode()
    weights.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(weights, 8 + len(header) + 400 * MB)
    assert growth_mb(f"load_model({str(model)!r})") < 50


def growth_mb(call):
    """How much memory a process needs more to refuse something; of what it had before, all is loaded."""
    script = f"""
import sys
from pathlib import Path
from flarenet.errors import FlarenetError
from flarenet.inference.models.model import load_model
from flarenet.inference.models.model_file import install
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
try:
    load_model({str(Path(__file__).parent)!r})
except FlarenetError:
    pass
before = peak()
try:
    {call}
except FlarenetError as error:
    print((peak() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_s11_links_where_a_model_would_go(root, model_file, tmp_path, capsys):
    victim = tmp_path / "victim.txt"
    (root / "models").mkdir()
    (root / "models" / "toy").symlink_to(victim)  # points nowhere yet
    assert main(["--root", str(root), "install", str(model_file)]) != 0
    assert not victim.exists() and list((root / "models").iterdir()) == [root / "models" / "toy"]
    victim.write_bytes(b"mine")
    assert main(["--root", str(root), "install", str(model_file)]) == 2
    link = tmp_path / "linked.zip"
    link.symlink_to(victim)
    assert main(["--root", str(root), "export", "runs/Toy/Toy2D", str(link)]) == 2
    assert victim.read_bytes() == b"mine"


def too_much(kind):
    """Bytes that no JSON file should have."""
    return {
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "long number": b'{"version": 1' + b"0" * 400 + b"}",
        "large": b'{"x": "' + os.urandom(25 * MB).hex().encode() + b'"}',
        "same key twice": b'{"name": "a", "name": "b"}',
        "NaN": b'{"version": NaN}',
        "no UTF-8": b'{"name": "\xff"}',
        "empty": b"",
    }[kind]


@pytest.mark.parametrize("name", ["manifest.json", PLAN, ABOUT])
@pytest.mark.parametrize("kind", ["deep", "long number", "large", "same key twice", "NaN", "no UTF-8", "empty"])
def test_s13_json_that_is_too_much(members, refused, tmp_path, name, kind):
    made = too_much(kind)
    changed = sealed({**members, name: made}) if name == PLAN else {**members, name: made}
    file = zipped(changed.items(), tmp_path / "m.zip")
    refused(file)  # after which all that is imported late is there
    began = time.process_time()
    with pytest.raises(UnsafeError):
        install(file, tmp_path / "home")
    assert time.process_time() - began <= 1


def test_what_is_refused_is_an_unsafe_error_with_the_files_name(model_file, tmp_path):
    model_file.write_bytes(b"no zip")
    with pytest.raises(UnsafeError, match=r"toy\.zip"):
        install(model_file, tmp_path)
