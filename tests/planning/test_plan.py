import json
from pathlib import Path

import pytest

from flarenet.data.dataset import Case
from flarenet.data.labels import LabelSet
from flarenet.errors import PlanError, UsageError
from flarenet.planning.cost.memory import training_gb
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, ScanSize, Step, Subset, TrainerPlan
from flarenet.planning.plan_file import load_plan, override, save_plan
from flarenet.planning.runs import Run

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})


def step(**changes) -> Step:
    subset = Subset(patterns=((1,),))
    numbers = dict(groups=("organ",), batch_size=2, batches_per_epoch=3, epochs=4, learning_rate=1e-3)
    return Step(subset=subset, **{**numbers, **changes})


def trainer(dimensions: int, *steps: Step) -> TrainerPlan:
    configuration = {2: "2d", 3: "3d"}[dimensions]
    network = NetworkSpec(kind="unet", dimensions=dimensions, features=(4, 4, 4, 4), groups=("organ",))
    return TrainerPlan(configuration=configuration, network=network, steps=steps)


@pytest.fixture
def plan() -> Plan:
    flat = Configuration(
        spacing_mm=(None, 1.0, 1.0), inference_spacing_mm=(2.5, 1.0, 1.0), patch=(64, 96), clip_hu=(-200.0, 300.0)
    )
    deep = Configuration(
        spacing_mm=(1.0, 1.0, 1.0), inference_spacing_mm=(1.0, 1.0, 1.0), patch=(32, 32, 32), clip_hu=(-200.0, 300.0)
    )
    taught = step(teachers={"organ": "Deep/1"})
    return Plan(
        recipe="auto",
        dataset="set",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={"2d": flat, "3d": deep},
        trainers={"Deep": trainer(3, step()), "Flat": trainer(2, taught, step(starts_from="Flat/1"))},
    )


def test_a_plan_comes_back_from_its_file_as_it_was(plan, tmp_path):
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan


def test_a_plan_of_before_there_was_a_word_for_what_is_left_out_leaves_nothing_out(plan, tmp_path):
    path = tmp_path / "plan.json"
    save_plan(plan, path)
    data = json.loads(path.read_text())
    assert data.pop("without") is None
    path.write_text(json.dumps(data))
    assert load_plan(path) == plan


def test_one_value_is_set_and_the_rest_stays(plan):
    changed = override(plan, ["trainers.Flat.steps.1.epochs=9"])
    assert [s.epochs for s in changed.trainers["Flat"].steps] == [4, 9]
    assert override(changed, ["trainers.Flat.steps.1.epochs=4"]) == plan


def test_a_star_stands_for_every_entry(plan):
    changed = override(plan, ["trainers.*.steps.*.epochs=1"])
    assert [s.epochs for part in changed.trainers.values() for s in part.steps] == [1, 1, 1]


def test_values_are_json_or_a_bare_word(plan):
    changed = override(plan, ["configurations.2d.patch=[32, 64]", "precision=fp32", "seed=7"])
    assert (changed.configurations["2d"].patch, changed.precision, changed.seed) == ((32, 64), "fp32", 7)


def test_a_changed_value_loses_its_reason_and_no_other_does(plan):
    reasons = {"network": "a", "epochs": "b", "steps.1.epochs": "c", "steps": "d", "batch_size": "e"}
    trainers = {"Flat": plan.trainers["Flat"].model_copy(update={"why": reasons})}
    configurations = {"2d": plan.configurations["2d"].model_copy(update={"why": {"patch": "f", "clip_hu": "g"}})}
    reasoned = plan.model_copy(
        update={"trainers": {**plan.trainers, **trainers}, "configurations": {**plan.configurations, **configurations}}
    )
    changed = override(
        reasoned, ["trainers.*.steps.*.epochs=2", "configurations.2d.patch=[32,32]", "trainers.Flat.network.kind=unet"]
    )
    assert changed.configurations["2d"].why == {"patch": "set by hand", "clip_hu": "g"}
    assert changed.trainers["Flat"].why == {
        **dict.fromkeys(("network", "epochs", "steps.1.epochs"), "set by hand"),
        **{"steps": "d", "batch_size": "e"},
    }


def test_the_reason_of_a_number_that_rests_on_a_changed_one_says_so_once(plan):
    reasons = {"batches_per_epoch": "a", "steps.0.epochs": "b", "steps.1.epochs": "c", "learning_rate": "d"}
    trainers = {"Flat": plan.trainers["Flat"].model_copy(update={"why": reasons})}
    numbers = {"patch": "e", "overlap": "f", "clip_hu": "g"}
    configurations = {"2d": plan.configurations["2d"].model_copy(update={"why": numbers})}
    reasoned = plan.model_copy(
        update={"trainers": {**plan.trainers, **trainers}, "configurations": {**plan.configurations, **configurations}}
    )
    changes = ["batch_size=1", "epochs=9", "batches_per_epoch=3"]
    changed = override(
        reasoned, [*(f"trainers.Flat.steps.1.{change}" for change in changes), "configurations.2d.patch=[32,32]"]
    )
    assert changed.trainers["Flat"].why == {
        "batches_per_epoch": "set by hand",
        "steps.0.epochs": "b",
        "steps.1.epochs": "set by hand",
        "learning_rate": "d",
    }
    said = "; as planned before other numbers were set by hand"
    assert changed.configurations["2d"].why == {"patch": "set by hand", "overlap": f"f{said}", "clip_hu": "g"}
    changed = override(reasoned, [f"trainers.*.steps.*.{change}" for change in ("batch_size=1", "batches_per_epoch=3")])
    assert changed.trainers["Flat"].why == {
        "batches_per_epoch": "set by hand",
        "steps.0.epochs": f"b{said}",
        "steps.1.epochs": f"c{said}",
        "learning_rate": "d",
    }


@pytest.mark.parametrize(
    ("change", "by_hand", "resting"),
    [
        ("configurations.2d.patch.0=32", {"patch"}, {"overlap"}),
        ("trainers.Flat.steps.0.pseudo=null", {"steps.0.pseudo.passes"}, set()),
        ("trainers.Flat.steps.0.subset.patterns=[[1]]", {"subset"}, set()),
        ("trainers.Flat.augmentation.zoom=0.1", {"augmentation"}, set()),
    ],
)
def test_the_reasons_of_a_part_and_of_the_whole_are_set_by_hand_too(plan, change, by_hand, resting):
    of_trainer = ("steps", "steps.0.pseudo.passes", "steps.1.pseudo.passes", "subset", "augmentation", "learning_rate")
    trainers = {"Flat": plan.trainers["Flat"].model_copy(update={"why": dict.fromkeys(of_trainer, "a")})}
    numbers = dict.fromkeys(("patch", "overlap", "clip_hu"), "a")
    configurations = {"2d": plan.configurations["2d"].model_copy(update={"why": numbers})}
    reasoned = plan.model_copy(
        update={"trainers": {**plan.trainers, **trainers}, "configurations": {**plan.configurations, **configurations}}
    )
    changed = override(reasoned, [change])
    found = {**changed.trainers["Flat"].why, **changed.configurations["2d"].why}
    assert {name for name, why in found.items() if why == "set by hand"} == by_hand
    assert {name for name, why in found.items() if why.startswith("a; as planned before")} == resting


def test_a_key_that_names_nothing_brings_the_nearest(plan):
    with pytest.raises(UsageError, match=r"'epoch'.*\n.*\n.*did you mean 'epochs'"):
        override(plan, ["trainers.Flat.steps.0.epoch=3"])
    with pytest.raises(UsageError, match="did you mean 'Flat'"):
        override(plan, ["trainers.Falt.steps.0.epochs=3"])
    with pytest.raises(UsageError, match="'7'"):
        override(plan, ["trainers.Flat.steps.7.epochs=3"])
    with pytest.raises(UsageError, match="'deeper'"):
        override(plan, ["seed.deeper=3"])


def test_a_change_without_a_value_is_a_usage_error(plan):
    with pytest.raises(UsageError, match="key=value"):
        override(plan, ["trainers.Flat.steps.0.epochs"])


FACTS = ["scans={}", "dataset=other", "labels.names=[]", "version=2", "recipe=paper", "fingerprint_hash=1"]
FACTS += ["without=unlabelled", "budget.size=m", "budget.network=unetr"]


@pytest.mark.parametrize("change", FACTS)
def test_facts_are_not_set(plan, change):
    with pytest.raises(UsageError, match="a fact"):
        override(plan, [change])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("trainers.Flat.steps.0.epochs=many", "trainers.Flat.steps.0.epochs"),
        ("trainers.Flat.steps.0.epochs=2.5", "trainers.Flat.steps.0.epochs"),
        ("trainers.Flat.steps.0.epochs=0", "trainers.Flat.steps.0.epochs"),
        ("trainers.Flat.steps.0.schedule=linear", "trainers.Flat.steps.0.schedule"),
        ("folds=0", "folds"),
        ("seed=-1", "seed"),
        ("trainers.Flat.steps=[]", "trainers.Flat.steps"),
        ('configurations.2d.patch="64"', "configurations.2d.patch"),
    ],
)
def test_a_value_of_the_wrong_kind_names_its_key(plan, change, place):
    with pytest.raises(PlanError, match=place):
        override(plan, [change])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("configurations.2d.patch=[64, 64, 64]", "trainers.Flat: patch"),
        ("trainers.Flat.configuration=4d", "trainers.Flat.configuration"),
        ('trainers.Flat.steps.0.groups=["bone"]', "trainers.Flat.steps.0"),
        ("trainers.Flat.steps.1.starts_from=Flat/3", "trainers.Flat.steps.1"),
        ("trainers.Flat.steps.1.starts_from=Flat/2", "trainers.Flat.steps.1"),
        ("trainers.Flat.steps.0.teachers.organ=Flat/2", "trainers.Flat.steps.0"),
        ("trainers.Flat.steps.0.teachers.organ=Nobody/1", "trainers.Flat.steps.0"),
        ('trainers.Flat.steps.0.teachers={"cancer": "Deep/1"}', "trainers.Flat.steps.0.teachers.cancer"),
        ("trainers.Deep.steps.0.encoder_from=Nobody/1", "trainers.Deep.steps.0"),
        ("trainers.Flat.steps.1.encoder_from=Deep/1", "trainers.Flat.steps.1"),
        ("configurations.3d.neighbours=1", "configurations.3d.neighbours"),
        ("configurations.2d.neighbours=1", "trainers.Flat.network.input_channels"),
        ("configurations.3d.clip_hu=[300, -200]", "configurations.3d.clip_hu"),
        ("configurations.3d.spacing_mm=[1, 0, 1]", "configurations.3d.spacing_mm"),
        ("configurations.3d.normalisation=percentile", "configurations.3d.clip_hu"),
        ("configurations.3d.clip_hu=null", "configurations.3d.clip_hu"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(plan, change, place):
    with pytest.raises(PlanError, match=place):
        override(plan, [change])


@pytest.mark.parametrize(
    ("trainer", "patch", "taken"),
    [
        ("Deep", "[4,4,8]", True),  # three resolutions: 1 x 1 x 2 voxels at the coarsest
        ("Deep", "[4,4,7]", False),
        ("Deep", "[3,96,96]", False),
        ("Flat", "[8,4]", True),
        ("Flat", "[4,4]", False),
    ],
)
def test_a_patch_of_which_a_u_net_has_no_two_voxels_at_its_coarsest_resolution_is_refused(plan, trainer, patch, taken):
    change = f"configurations.{plan.trainers[trainer].configuration}.patch={patch}"
    if taken:
        override(plan, [change])
        return
    with pytest.raises(PlanError, match=r"(?s)at least 4 voxels, one of at least 8, for 3 resolutions") as caught:
        override(plan, [change])
    assert caught.value.thing == f"--set: trainers.{trainer}.network: patch"


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        (["trainers.Flat.steps.0.warmup_epochs=4"], True),  # of as many epochs
        (["trainers.Flat.steps.0.warmup_epochs=9"], True),
        (["trainers.*.steps.*.warmup_epochs=3", "trainers.Deep.steps.0.epochs=3"], True),
        (["trainers.*.steps.*.warmup_epochs=3"], False),
        (["trainers.*.steps.*.epochs=1", "trainers.*.steps.*.warmup_epochs=0"], False),
        (["trainers.*.steps.*.epochs=1", "trainers.*.steps.*.warmup_epochs=1"], False),  # a trial
        (["trainers.*.steps.*.epochs=1", "trainers.*.steps.*.warmup_epochs=2"], True),
    ],
)
def test_a_change_that_leaves_nothing_but_a_warm_up_is_refused(plan, changes, refused):
    if refused:
        with pytest.raises(PlanError, match=r"(?s)warmup_epochs.*--epochs N") as caught:
            override(plan, changes)
        assert ".steps.0.warmup_epochs" in caught.value.thing
    else:
        override(plan, changes)


def test_a_warm_up_that_somebody_wrote_into_the_plan_stays(plan, tmp_path):
    deep = plan.trainers["Deep"].model_copy(update={"steps": (step(warmup_epochs=4),)})
    edited = plan.model_copy(update={"trainers": {**plan.trainers, "Deep": deep}})
    save_plan(edited, tmp_path / "plan.json")
    assert override(load_plan(tmp_path / "plan.json"), ["seed=7"]).step("Deep", 1).warmup_epochs == 4


def test_a_spacing_that_would_not_fit_in_memory_is_refused_with_both_numbers(plan):
    """400 mm each way at 0.05 mm: 8000 voxels an axis, 5.12e11 of 3 bytes."""
    scans = {"longest": ScanSize(shape=(400, 400, 400), spacing_mm=(1.0, 1.0, 1.0))}
    sized = plan.model_copy(update={"scans": scans})
    with pytest.raises(PlanError, match=r"(?s)configurations.3d.spacing_mm 0.05.*1536.0 GB.*400 x 400 x 400 mm.*8 GB"):
        override(sized, ["configurations.3d.spacing_mm=[0.05,0.05,0.05]"])


def test_a_prediction_that_would_not_fit_is_refused(plan):
    sized = plan.model_copy(update={"scans": {"large": ScanSize(shape=(400, 400, 400), spacing_mm=(1.0, 1.0, 1.0))}})
    with pytest.raises(PlanError, match=r"(?s)inference_spacing_mm.*prediction by Deep.*budget.gpu_memory_gb"):
        override(sized, ["configurations.3d.inference_spacing_mm=[0.05,0.05,0.05]"])


def test_training_that_would_not_fit_is_refused_until_the_budget_grows(plan):
    deep = plan.trainers["Deep"].model_copy(
        update={"network": NetworkSpec(kind="unet", dimensions=3, features=(16, 16, 32, 16), groups=("organ",))}
    )
    real = plan.model_copy(update={"trainers": {**plan.trainers, "Deep": deep}})
    large = ["trainers.Deep.steps.0.batch_size=4096"]
    with pytest.raises(PlanError, match=r"(?s)trainers.Deep.steps.0.batch_size 4096 with patch 32 x 32 x 32.*16 GB"):
        override(real, large)
    assert override(real, [*large, "budget.gpu_memory_gb=640"]).budget.gpu_memory_gb == 640


@pytest.mark.parametrize(("parts", "at_once"), [(1, 4096), (3, 1366), (4096, 1), (9999, 1)])
def test_a_batch_needs_the_memory_of_the_part_that_is_worked_on_at_once(plan, parts, at_once):
    deep = plan.trainers["Deep"].model_copy(
        update={"network": NetworkSpec(kind="unet", dimensions=3, features=(16, 16, 32, 16), groups=("organ",))}
    )
    spec, patch = deep.network, plan.configurations["3d"].patch
    need_gb = training_gb(spec, plan.labels.outputs, patch=patch, batch_size=at_once, precision=plan.precision)
    real = plan.model_copy(update={"trainers": {**plan.trainers, "Deep": deep}})
    changes = ["trainers.Deep.steps.*.batch_size=4096", f"trainers.Deep.update.accumulate={parts}"]
    assert override(real, [*changes, f"budget.gpu_memory_gb={need_gb + 0.01}"]).trainers["Deep"].steps
    with pytest.raises(PlanError, match="update.accumulate"):
        override(real, [*changes, f"budget.gpu_memory_gb={need_gb - 0.01}"])


def test_a_file_edited_into_nonsense_names_file_and_key(plan, tmp_path):
    path = tmp_path / "plan.json"
    save_plan(plan, path)
    data = json.loads(path.read_text())
    data["trainers"]["Deep"]["steps"][0]["epochz"] = 3
    path.write_text(json.dumps(data))
    with pytest.raises(PlanError, match=r"plan.json: key 'trainers.Deep.steps.0.epochz'"):
        load_plan(path)


def test_steps_are_counted_from_one(plan):
    assert plan.step("Flat", 2).starts_from == Run("Flat", 1)
    with pytest.raises(UsageError, match="1 to 2"):
        plan.step("Flat", 3)
    with pytest.raises(UsageError, match="did you mean 'Flat'"):
        plan.step("flta", 1)


def test_a_subset_holds_exact_patterns_in_any_order():
    subset = Subset(patterns=((2, 1), ()))
    assert subset.holds({1, 2}) and subset.holds(())
    assert not subset.holds({1}) and not subset.holds({1, 2, 3})
    cases = [Case(name, Path(), None, frozenset(values)) for name, values in (("b", {1, 2}), ("c", {1}), ("a", ()))]
    assert [case.name for case in subset.of(cases)] == ["b", "a"]
    assert subset.of(()) == ()


def test_only_what_is_clipped_to_a_window_of_hu_is_ct(plan):
    ct = plan.configurations["2d"]
    assert ct.is_ct and not ct.model_copy(update={"normalisation": "percentile", "clip_hu": None}).is_ct
