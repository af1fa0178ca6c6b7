"""Model files changed at random: each is refused as unsafe, or gives exactly the models that were in it."""

import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flarenet.errors import UnsafeError
from flarenet.inference.models.model_file import export_models, install
from tests.model_files.small import files_below, members_of, sealed, train, zipped

CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A model file, and its members; as it is and sealed again it is installed, or nothing below would have to be."""
    folder = tmp_path_factory.mktemp("sound")
    train(folder / "step_2")
    export_models([folder / "step_2"], folder / "toy.zip")
    members = members_of(folder / "toy.zip")
    again = sealed(members)
    assert outcome((folder / "toy.zip").read_bytes()) == members
    assert outcome(zipped(again.items(), folder / "sealed.zip").read_bytes()) == again
    return folder / "toy.zip", members


def outcome(content):
    """What installing a file of these bytes gives: {name: bytes}, or None where it was refused; never anything else."""
    with tempfile.TemporaryDirectory() as folder:
        file, root = Path(folder) / "file.zip", Path(folder) / "root"
        root.mkdir()
        file.write_bytes(content)
        try:
            done = install(file, root)
        except UnsafeError:
            assert files_below(root) == {} and not list(root.glob("models/*")) + list(root.glob("models/.*"))
            assert [path.name for path in Path(folder).iterdir() if path != root] == ["file.zip"]
            return None
        assert done.folder.parent == root / "models" and list((root / "models").iterdir()) == [done.folder]
        return {path.relative_to(done.folder).as_posix(): read for path, read in files_below(root).items()}


@settings(max_examples=300, **CHECKS)
@given(st.data())
def test_flipped_bytes(sound, data):
    file, members = sound
    content = bytearray(file.read_bytes())
    # the zip's own records are a small part of the file, and the more interesting one
    directory = len(content) - int.from_bytes(content[-10:-6], "little") - 22
    first = data.draw(st.sampled_from([0, directory]))
    places = data.draw(st.lists(st.integers(first, len(content) - 1), min_size=1, max_size=4))
    for place in places:
        content[place] ^= data.draw(st.integers(1, 255))
    assert outcome(bytes(content)) in (None, members)


@settings(max_examples=60, **CHECKS)
@given(st.data())
def test_cut_and_grown_files(sound, data):
    content = sound[0].read_bytes()
    if data.draw(st.booleans()):
        changed = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place, more = data.draw(st.integers(0, len(content))), data.draw(st.binary(min_size=1, max_size=200))
        changed = content[:place] + more + content[place:]
    assert outcome(changed) in (None, sound[1])


PARTS = st.sampled_from(["..", ".", "", "step_1", "fold_1", "fold_x", "~", "C:", "plan.json", "a.py", "\x00", "\u202e"])
NAMES = st.one_of(
    st.builds("/".join, st.lists(PARTS, min_size=1, max_size=4)),
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40),
)


@settings(max_examples=150, **CHECKS)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=50)), min_size=1, max_size=3), st.integers(0, 0xFFFF), st.booleans()
)
def test_members_of_other_names_and_kinds(sound, more, mode, listed):
    members = {**sound[1], **dict(more)} if listed else sound[1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.zip"
        content = list(sealed(members).items()) if listed else [*members.items(), *more]
        for name, read in content[-len(more) :]:
            made = zipfile.ZipInfo("x")
            made.filename = made.orig_filename = name
            made.create_system, made.external_attr = 3, mode << 16
            content[content.index((name, read))] = (made, read)
        assert outcome(zipped(content, file).read_bytes()) is None


@settings(max_examples=150, **CHECKS)
@given(st.data())
def test_weights_sealed_again_after_a_change(sound, data):
    members, name = sound[1], "step_2/weights.safetensors"
    content = bytearray(members[name])
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    changed = sealed({**members, name: bytes(content)})
    with tempfile.TemporaryDirectory() as folder:
        assert outcome(zipped(changed.items(), Path(folder) / "m.zip").read_bytes()) in (None, changed)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 2**40), max_size=7),
)


def places_of(value, above=()):
    """The path of everything in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*above, key)
        yield from places_of(inner, (*above, key))


@settings(max_examples=300, **CHECKS)
@given(st.data())
def test_plans_and_facts_sealed_again_after_a_change(sound, data):
    members = sound[1]
    name = data.draw(st.sampled_from(["step_2/plan.json", "step_2/about.json", "manifest.json"]))
    read = json.loads(members[name])
    *above, last = data.draw(st.sampled_from(list(places_of(read))))
    node = read
    for key in above:
        node = node[key]
    node[last] = data.draw(VALUES)
    changed = {**members, name: json.dumps(read).encode()}
    if name != "manifest.json":
        changed = sealed(changed)
    with tempfile.TemporaryDirectory() as folder:
        assert outcome(zipped(changed.items(), Path(folder) / "m.zip").read_bytes()) in (None, changed)
