"""A model folder comes back as it was saved, or says exactly what is wrong with it."""

import json
import os

import pytest
import safetensors.torch
import torch

from flarenet import __version__
from flarenet.data.labels import LabelSet
from flarenet.errors import FlarenetError, RunError, StorageError, UnsafeError
from flarenet.inference.models.about import About, describe, is_finished, read_about
from flarenet.inference.models.model import load_model, load_start, load_weights, save_model
from flarenet.networks import build
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan
from flarenet.schema import save
from flarenet.whole import sha256_of
from tests.full_disk import longest_file
from tests.model_files.small import resealed

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


def small_plan(features=(4, 4, 4, 4, 4, 4)):
    step = Step(
        subset=Subset(patterns=((1, 2, 3),)),
        groups=("organ", "cancer"),
        batch_size=1,
        batches_per_epoch=1,
        epochs=1,
        learning_rate=1.0,
    )
    network = NetworkSpec(kind="dual_decoder", dimensions=2, features=features, groups=("organ", "cancer"))
    return Plan(
        recipe="auto",
        dataset="Toy",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={
            "2d": Configuration(
                spacing_mm=(None, 1.0, 1.0),
                inference_spacing_mm=(None, 1.0, 1.0),
                patch=(32, 32),
                clip_hu=(-200.0, 300.0),
            )
        },
        trainers={"DualDecoder2D": TrainerPlan(configuration="2d", network=network, steps=(step,))},
    )


@pytest.fixture
def saved(tmp_path):
    plan = small_plan()
    torch.manual_seed(0)
    network = build(plan.trainers["DualDecoder2D"].network, LABELS.outputs).to(memory_format=torch.channels_last)
    folder = tmp_path / "step_1"
    save_model(folder, network, plan=plan, trainer="DualDecoder2D", step=1, summary={"best_dice": 0.5, "epochs": 3})
    return folder, network


@pytest.mark.parametrize("size", [100, 2000])
def test_a_full_disk_leaves_no_finished_model_and_with_room_it_is_the_same(saved, tmp_path, size):
    """2000 bytes hold the plan, but no weights."""
    (folder, network), other = saved, tmp_path / "again"
    words = {"plan": small_plan(), "trainer": "DualDecoder2D", "step": 1, "summary": {"best_dice": 0.5, "epochs": 3}}
    with pytest.raises(StorageError, match="bytes free"), longest_file(size):
        save_model(other, network, **words)
    assert not is_finished(other) and not list(other.glob(".*"))
    save_model(other, network, **words)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_a_model_comes_back_as_it_was(saved):
    folder, network = saved
    model = load_model(folder)
    assert (model.trainer, model.step, model.groups) == ("DualDecoder2D", 1, ("organ", "cancer"))
    assert model.plan == small_plan()
    assert model.weights_sha256 == sha256_of(folder / "weights.safetensors")
    assert describe(folder).configuration == model.configuration
    assert model.configuration.patch == (32, 32) and not model.network.training
    x = torch.rand(1, 1, 32, 32)
    for group, logits in network.eval()(x).items():
        torch.testing.assert_close(model.network(x)[group], logits)
    assert json.loads((folder / "about.json").read_text())["summary"] == {"best_dice": 0.5, "epochs": 3}
    assert load_weights(folder).keys() == network.state_dict().keys()


def test_training_begins_with_all_weights_of_a_run_and_of_the_same_network_only(saved):
    folder, network = saved
    spec = small_plan().trainers["DualDecoder2D"].network
    again = build(spec, LABELS.outputs)
    load_start(again, folder)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in again.state_dict().items())
    wider = build(spec.model_copy(update={"features": (4, 4, 4, 4, 8, 4)}), LABELS.outputs)
    with pytest.raises(RunError, match="tensor") as caught:
        load_start(wider, folder)
    assert "the same --set" in caught.value.remedy


def test_a_folder_without_about_is_unfinished(saved):
    folder, _ = saved
    assert is_finished(folder)
    (folder / "about.json").unlink()
    assert not is_finished(folder)
    with pytest.raises(RunError, match=r"no about\.json"):
        load_model(folder)
    with pytest.raises(RunError, match="no such folder"):
        load_model(folder / "nothing")


def test_all_files_can_be_read_by_whom_the_umask_lets(saved, tmp_path):
    _, network = saved
    before = os.umask(0o027)
    try:
        save_model(tmp_path / "shared", network, plan=small_plan(), trainer="DualDecoder2D", step=1, summary={})
    finally:
        os.umask(before)
    permissions = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "shared").iterdir()}
    assert permissions == {"about.json": 0o640, "plan.json": 0o640, "weights.safetensors": 0o640}


@pytest.mark.parametrize("name", ["weights.safetensors", "plan.json"])
def test_one_flipped_byte_is_seen(saved, name):
    folder, _ = saved
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UnsafeError) as caught:
        load_model(folder)
    assert name in caught.value.thing and "sha256" in caught.value.found and "sha256" in caught.value.expected


def test_a_model_from_before_about_json_had_a_digest_of_itself_is_read(saved):
    folder, _ = saved
    about = json.loads((folder / "about.json").read_text())
    assert len(about.pop("content_sha256")) == 64
    (folder / "about.json").write_text(json.dumps(about))
    assert load_model(folder).trainer == "DualDecoder2D"


def test_names_of_cases_are_as_they_were_written_whatever_their_bytes(tmp_path):
    for name in ("weights.safetensors", "plan.json"):
        (tmp_path / name).touch()
    digests = {"weights.safetensors": "0", "plan.json": "0"}
    seen = ("Zoë", os.fsdecode(b"M\xfcller"))
    about = About(trainer="A", step=1, dataset="B", flarenet="0", seen=seen, sha256=digests)
    save(about.sealed(), tmp_path / "about.json")
    assert read_about(tmp_path).seen == ("Zoë", r"M\udcfcller")
    (tmp_path / "about.json").write_text((tmp_path / "about.json").read_text().replace("Zoë", "Zoe"))
    with pytest.raises(UnsafeError, match="other content than was written"):
        read_about(tmp_path)


def harm_plan(folder):
    (folder / "plan.json").write_text("{}")


def harm_about(folder):
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_bytes(resealed({**about, "trainer": "Stranger"}))


@pytest.mark.parametrize("harm", [harm_plan, harm_about, lambda folder: (folder / "about.json").unlink()])
def test_without_its_weights_the_same_is_said_of_a_folder(saved, harm):
    folder, _ = saved
    harm(folder)
    said = []
    for load in (load_model, describe):
        with pytest.raises(FlarenetError) as caught:
            load(folder)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


@pytest.mark.parametrize("name", ["weights.safetensors", "plan.json"])
def test_a_missing_file_is_named(saved, name):
    folder, _ = saved
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"{name}\n  found: no such file"):
        load_model(folder)


def rewrite(folder, change):
    """Change the tensors and make the checksum right again."""
    path = folder / "weights.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    about = json.loads((folder / "about.json").read_text())
    about["sha256"][path.name] = sha256_of(path)
    (folder / "about.json").write_bytes(resealed(about))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("down_1.convs.conv_0.conv.bias"), r"no tensor 'down_1\.convs\.conv_0\.conv\.bias'"),
        (lambda state: state.update(stranger=torch.zeros(1)), "tensor 'stranger'"),
        (lambda state: state.update({"conv_0.conv_0.conv.bias": torch.zeros(5)}), r"found: \(5,\)\n  expected: \(4,\)"),
    ],
)
def test_weights_of_another_network_are_refused(saved, change, message):
    folder, _ = saved
    rewrite(folder, change)
    with pytest.raises(UnsafeError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("99.0", f"flarenet 99.0 wrote it, and this is {__version__}: use that version"),
        (__version__, None),
        ("99\x1b[2J", None),  # of a stranger's file nothing else is printed
    ],
)
@pytest.mark.parametrize("file", ["plan.json", "about.json"])
def test_what_only_another_version_can_read_says_which(saved, file, version, remedy):
    folder, _ = saved
    contents = {name: json.loads((folder / name).read_text()) for name in ("plan.json", "about.json")}
    contents["about.json"]["flarenet"] = version
    contents[file]["closing_mm"] = 2.0
    (folder / "plan.json").write_text(json.dumps(contents["plan.json"]))
    contents["about.json"]["sha256"]["plan.json"] = sha256_of(folder / "plan.json")
    (folder / "about.json").write_bytes(resealed(contents["about.json"]))
    for load in (load_model, describe):
        with pytest.raises(UnsafeError, match="closing_mm") as caught:
            load(folder)
        assert caught.value.remedy == remedy


def test_an_unknown_network_in_the_plan_is_refused(saved):
    folder, _ = saved
    path = folder / "plan.json"
    path.write_text(path.read_text().replace('"dual_decoder"', '"os.system"'))
    about = json.loads((folder / "about.json").read_text())
    about["sha256"]["plan.json"] = sha256_of(path)
    (folder / "about.json").write_bytes(resealed(about))
    with pytest.raises(UnsafeError, match=r"unknown network 'os\.system'"):
        load_model(folder)
