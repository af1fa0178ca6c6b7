"""Whole plans, reasons included, of data sets of several kinds, as files to read and judge.

WRITE_GOLDEN=1 pytest tests/planning/test_golden.py writes them anew; review the difference.
"""

import json
import os
from functools import cache
from pathlib import Path

import pytest

from flarenet.planning.budget import AUTO, PAPER, Budget, Request
from flarenet.planning.cost.kinds import cost
from flarenet.planning.plan import Step, Update
from flarenet.planning.plan_file import save_plan
from flarenet.planning.rules.patterns import fullest, with_any_of
from flarenet.planning.runs import Run
from flarenet.trainers.planner import make_plan
from tests.planning import facts

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

LARGE = Request("auto", Budget(gpu_memory_gb=80.0, inference_memory_gb=8.0, inference_seconds=60.0, size="l"))

PLANS = {
    "flare23_paper": (facts.flare23, PAPER),
    "flare23_auto": (facts.flare23, AUTO),
    "flare23_auto_l_80gb": (facts.flare23, LARGE),
    "flaremini_auto": (facts.flare_mini, AUTO),
    "kidneys_auto": (facts.kidneys, AUTO),
    "prostate_mr_auto": (facts.prostate, AUTO),
    "spleen_auto": (facts.spleen, AUTO),
}


@cache
def planned(name):
    set_of, request = PLANS[name]
    # the hash covers the whole form of a fingerprint, which a plan does not depend on
    return make_plan(set_of(), request).model_copy(update={"fingerprint_hash": "of the fingerprint"})


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_the_one_on_file(name):
    path, plan = GOLDEN / f"plan_{name}.json", planned(name)
    if os.environ.get("WRITE_GOLDEN"):
        save_plan(plan, path)
    assert plan.model_dump(mode="json") == json.loads(path.read_text())


def test_the_paper_s_plan_has_the_paper_s_numbers():
    """Tables 2 and 3 of the paper, and its sections 2 and 3, number by number."""
    plan = planned("flare23_paper")
    assert plan.budget.gpu_memory_gb == 64
    deep, flat = plan.configurations["3d"], plan.configurations["2d"]
    assert (deep.spacing_mm, deep.patch, deep.clip_hu) == ((1, 1, 1), (128, 128, 128), (-200, 300))
    assert (flat.spacing_mm, flat.patch, flat.clip_hu) == ((None, 1, 1), (224, 224), (-200, 300))
    assert flat.inference_spacing_mm == (2.5, 1, 1) and flat.neighbours == 0
    patches = {name: plan.configuration_of(name).patch for name in plan.trainers}
    counts = {
        name: cost(part.network, plan.labels.outputs, patches[name]).parameters for name, part in plan.trainers.items()
    }
    assert counts == {"3DOrgan": 1_439_006, "3DCancer": 1_438_802, "DualDecoder2D": 2_388_096}
    d_u, d_l1, d_l3, d_l4 = (), tuple(range(1, 14)), (1, 2, 3, 4, 13, 14), (14,)
    organ, cancer = plan.trainers["3DOrgan"].steps[0], plan.trainers["3DCancer"].steps[0]
    assert (organ.subset.patterns, organ.batch_size, organ.epochs) == ((d_l1,), 4, 250)
    assert (organ.learning_rate, organ.warmup_epochs, organ.selection) == (5e-4, 10, "lowest loss")
    assert (set(cancer.subset.patterns), cancer.batch_size, cancer.epochs) == ({d_l3, d_l4}, 4, 60)
    assert (cancer.learning_rate, cancer.warmup_epochs) == (5e-4, 5)
    steps = plan.trainers["DualDecoder2D"].steps
    assert [step.subset.patterns for step in steps] == [(d_u,), (d_l3,), (d_l1,), (d_l4,)]
    assert [step.epochs for step in steps] == [20, 30, 60, 20]
    assert [step.learning_rate for step in steps] == [1e-4, 5e-4, 5e-4, 1e-4]
    assert [step.trained for step in steps] == [(), (), ("decoders.organ",), ("decoders.cancer",)]
    assert [step.selection for step in steps] == ["last", *["best dice"] * 3]  # of d_u none has a truth to be judged by
    assert {step.batch_size for step in steps} == {128} and {step.schedule for step in steps} == {"polynomial"}
    assert all(part.weight_decay == 1e-5 for part in plan.trainers.values())


@pytest.mark.parametrize("name", PLANS)
def test_every_number_of_a_training_has_a_reason(name):
    """Under its own name or, where steps differ, under steps.N.NAME; what both recipes leave off is in
    docs/planning.md."""
    structure = {"subset", "starts_from", "encoder_from", "trained", "groups", "teachers", "pseudo"}
    off = {"rare", "exclusion"}
    numbers = set(Step.model_fields) - structure - off | {"weight_decay", "augmentation", "clip_norm"}
    for part in planned(name).trainers.values():
        assert part.update == Update() and {getattr(step, knob) for step in part.steps for knob in off} == {0}
        for number in range(len(part.steps)):
            assert numbers <= {reason.removeprefix(f"steps.{number}.") for reason in part.why}


def test_by_the_recipe_auto_every_step_keeps_its_last_weights():
    assert {step.selection for part in planned("flare23_auto").trainers.values() for step in part.steps} == {"last"}


def test_by_the_recipe_auto_2d_networks_are_narrow_at_full_resolution_and_small_sets_have_small_batches():
    joint = {name: planned(name).trainers["Joint"] for name in ("flaremini_auto", "flare23_auto")}
    assert joint["flaremini_auto"].network.features == (32, 32, 64, 128, 256, 32)
    assert joint["flaremini_auto"].steps[0].batch_size == 16
    assert joint["flare23_auto"].network.features[-1] == 32


def test_the_cohorts_of_the_challenge_have_the_published_sizes():
    found = facts.flare23()
    assert sum(cohort.cases for cohort in found.cohorts) == 4000
    assert found.count(fullest(found.patterns, range(1, 14))) == 250
    assert found.count(with_any_of(found.patterns, (14,))) == 609 + 888


def test_real_geometry_gives_the_golden_numbers(test_data):
    """The plan of the 3918 real shapes and spacings beside that of their summary: the same decisions."""
    lines = (test_data / "flare23" / "geometry.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    scans = [(1, int(z), int(x), float(dz), float(dx)) for z, _, x, dz, _, dx in rows]
    assert len(scans) == 3918
    found = facts.data_set(
        "FLARE23", facts.ABDOMEN, facts.FLARE23_COHORTS, scans, foreground_hu=(-969, 90, 277), hu=(-1024, 1500)
    )
    real, golden = make_plan(found, AUTO), planned("flare23_auto")
    assert real.configurations["3d"].patch == golden.configurations["3d"].patch
    for one, other in zip(real.configurations["2d"].patch, golden.configurations["2d"].patch):
        assert abs(one - other) <= 32  # the body, rounded up to multiples of 32
    for name in ("3d", "2d"):
        for one, other in zip(real.configurations[name].spacing_mm, golden.configurations[name].spacing_mm):
            assert one == other or one == pytest.approx(other, rel=0.05)
    assert [step.batch_size for step in real.trainers["DualDecoder2D"].steps] == [16] * 4
    assert {name: part.network for name, part in real.trainers.items()} == {
        name: part.network for name, part in golden.trainers.items()
    }


def test_sets_without_a_second_group_or_without_gaps_get_no_empty_work():
    spleen, kidneys, prostate = (planned(f"{name}_auto") for name in ("spleen", "kidneys", "prostate_mr"))
    assert "3DCancer" not in spleen.trainers
    assert len(spleen.trainers["DualDecoder2D"].steps) == 1
    # every case answers everything: no pseudo labels, the whole network once, then two decoders
    assert [step.trained for step in kidneys.trainers["DualDecoder2D"].steps] == [
        (), ("decoders.organ",), ("decoders.lesion",)
    ]  # fmt: skip
    assert all(not step.teachers for part in kidneys.trainers.values() for step in part.steps)
    # zones in some cases and lesions in others: each is the other's teacher
    teachers = {"zone": Run("3DOrgan", 1), "lesion": Run("3DCancer", 1)}
    assert prostate.trainers["DualDecoder2D"].steps[0].teachers == teachers


def test_images_without_a_unit_have_no_window():
    for configuration in planned("prostate_mr_auto").configurations.values():
        assert (configuration.normalisation, configuration.clip_hu) == ("percentile", None)
        assert "MR has no unit" in configuration.why["normalisation"]
