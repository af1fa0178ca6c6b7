import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import PlanError
from flarenet.planning.budget import AUTO
from flarenet.planning.cost.kinds import cost
from flarenet.planning.cost.memory import (
    inference_spacing,
    prediction_gb,
    prepared_gb,
    step_gb,
    training_gb,
    windows_at_once,
)
from flarenet.planning.fits import check_fits
from flarenet.planning.fusion import Fusion
from flarenet.planning.plan import Configuration, NetworkSpec, ScanSize
from flarenet.planning.runs import Run
from flarenet.trainers.planner import make_plan
from tests.planning import facts

OUTPUTS = {"organ": 13}
UNET = NetworkSpec(kind="unet", dimensions=2, features=(16, 32, 64, 128, 256, 128), groups=("organ",))
FLAT = Configuration(
    spacing_mm=(None, 1.0, 1.0), inference_spacing_mm=(2.5, 1.0, 1.0), patch=(224, 224), clip_hu=(-200.0, 300.0)
)
SCAN = ScanSize(shape=(100, 500, 500), spacing_mm=(1.0, 0.8, 0.8))


def test_a_scan_is_resampled_axis_by_axis():
    assert SCAN.extent_at((2.0, 0.4, None)) == (50, 1000, 500)
    assert SCAN.voxels_at((None, None, None)) == 25_000_000
    assert SCAN.extent_mm == (100, 400, 400)


def test_thin_slices_are_thinned_and_thick_ones_stay():
    assert inference_spacing(SCAN, FLAT) == (2.5, 1.0, 1.0)
    thick = SCAN.model_copy(update={"spacing_mm": (5.0, 0.8, 0.8)})
    assert inference_spacing(thick, FLAT) == (None, 1.0, 1.0)


def test_a_prepared_case_has_three_bytes_a_voxel():
    """100 x 400 x 400 voxels at 1 mm in plane: 16 million, 48 MB; at 0.05 mm 400 times as many, 19.2 GB."""
    assert prepared_gb(SCAN, FLAT) == pytest.approx(0.048)
    fine = FLAT.model_copy(update={"spacing_mm": (None, 0.05, 0.05)})
    assert prepared_gb(SCAN, fine) == pytest.approx(19.2)


def test_training_grows_by_the_sample():
    def need(batch_size, precision="fp32"):
        return training_gb(UNET, OUTPUTS, patch=(224, 224), batch_size=batch_size, precision=precision)

    assert need(3) - need(2) == pytest.approx(need(2) - need(1))
    assert need(2, "bf16") < need(2)
    assert need(2, "auto") == need(2)  # a card without bf16 computes in float32


def test_a_step_takes_the_memory_of_the_samples_that_are_worked_on_at_once():
    """Four blocks in two parts: two at once. The two rows of one of two processes in two parts: one at once."""
    plan = make_plan(facts.spleen(), AUTO, changes=["trainers.3DOrgan.update.accumulate=2", "precision=fp32"])
    spec, patch, step = plan.trainer("3DOrgan").network, plan.configurations["3d"].patch, plan.step("3DOrgan", 1)
    assert step.batch_size == 4
    two, one, less = (
        training_gb(spec, plan.labels.outputs, patch=patch, batch_size=batch_size, precision=precision)
        for batch_size, precision in ((2, "fp32"), (1, "fp32"), (2, "bf16"))
    )
    assert one < two and less < two
    assert step_gb(plan, "3DOrgan", step) == two
    assert step_gb(plan, "3DOrgan", step, rows=2) == one
    assert step_gb(plan, "3DOrgan", step, precision="bf16") == less


def test_prediction_of_a_finer_spacing_needs_more():
    fine = FLAT.model_copy(update={"inference_spacing_mm": (2.5, 0.1, 0.1)})
    assert prediction_gb(SCAN, fine, UNET, OUTPUTS) > 5 * prediction_gb(SCAN, FLAT, UNET, OUTPUTS)


@pytest.mark.parametrize(
    ("patch", "on_card", "on_cpu"), [((224, 224), 8, 2), ((448, 448), 2, 1), ((1024, 1024), 1, 1), ((128,) * 3, 1, 1)]
)
def test_slices_run_together_as_far_as_eight_of_the_paper_s_patches_go_and_on_a_cpu_two(patch, on_card, on_cpu):
    assert windows_at_once(patch, on_cpu=False) == on_card
    assert windows_at_once(patch, on_cpu=True) == on_cpu


def test_what_streams_needs_the_same_whatever_its_length():
    long = SCAN.model_copy(update={"shape": (2000, 500, 500)})
    assert prediction_gb(long, FLAT, UNET, OUTPUTS) == prediction_gb(SCAN, FLAT, UNET, OUTPUTS)
    percentiles = FLAT.model_copy(update={"normalisation": "percentile", "clip_hu": None})
    longer = SCAN.model_copy(update={"shape": (3000, 500, 500)})
    grown = prediction_gb(longer, percentiles, UNET, OUTPUTS) - prediction_gb(long, percentiles, UNET, OUTPUTS)
    assert grown == pytest.approx(9 * 1000 * 500 * 500 / 1e9)  # float32, its copy to be ranked, and which voxels are


def test_an_answer_that_waits_for_its_last_slice_is_packed():
    """A twentieth of a byte for the only group, of 25 million voxels."""
    whole = prediction_gb(SCAN, FLAT, UNET, OUTPUTS, fusion=Fusion(largest=("liver",)))
    assert whole - prediction_gb(SCAN, FLAT, UNET, OUTPUTS) == pytest.approx(0.05 * 0.025)


def test_a_mirrored_scan_has_logits_of_its_own():
    """Five times two slices, 400 x 400 pixels of 14 channels in float32: the mirrored ones, as they come and turned
    back, both probabilities and their mean."""
    mirrored = prediction_gb(SCAN, FLAT, UNET, OUTPUTS, fusion=Fusion(flips=True))
    assert mirrored - prediction_gb(SCAN, FLAT, UNET, OUTPUTS) == pytest.approx(4 * 5 * 2 * 14 * 400 * 400 / 1e9)


def test_the_logits_of_blocks_are_summed_for_a_patch_of_slices_and_given_out_one_by_one():
    """A label more is a channel of 400 x 400 pixels: of the 64 slices of a patch, two that are given out, and 11 about
    ten slices that wait or become labels; at 0.5 mm in place of 1 mm the ten lie between twenty. 3 of 500 x 500 are at
    the scan's own size. One more row of the head's weights, 16 and a bias."""
    deep = UNET.model_copy(update={"dimensions": 3, "features": (16, 16, 16, 16, 16, 16)})
    for z_mm, layers in ((1.0, 64 + 2 + 11), (0.5, 64 + 2 + 21)):
        numbers = {"patch": (64, 32, 32), "inference_spacing_mm": (z_mm, 1.0, 1.0)}
        few, more = (prediction_gb(SCAN, FLAT.model_copy(update=numbers), deep, {"organ": count}) for count in (13, 14))
        assert more - few == pytest.approx(4 * (layers * 400 * 400 + 3 * 500 * 500 + 17) / 1e9)


def test_a_u_net_holds_its_skips_beside_its_widest_layer():
    """The last convolution: 128 channels in, 128 out and as many behind the norm, beside the 32 that were raised; the
    skips are 16 channels, 32 of a quarter of the pixels, 64 of a 16th, 128 of a 64th and 256 of a 256th."""
    alive = cost(UNET, OUTPUTS, (224, 224)).alive
    assert alive == 224**2 * (128 + 2 * 128 + 32 + 16 + 8 + 4 + 2 + 1)


def test_thin_slices_are_held_until_those_between_them_are_made():
    """100 slices of 1 mm seen at 2.5 mm: 16 are made at once of 40, held once and side by side; at 0.5 mm twice as many
    are held. 400 x 400 pixels in float32."""
    thin = SCAN.model_copy(update={"shape": (200, 500, 500), "spacing_mm": (0.5, 0.8, 0.8)})
    thick = SCAN.model_copy(update={"spacing_mm": (2.5, 0.8, 0.8)})
    need = {scan.spacing_mm[0]: prediction_gb(scan, FLAT, UNET, OUTPUTS) for scan in (thin, SCAN, thick)}
    assert need[1.0] - need[2.5] == pytest.approx(4 * (16 + 2 * 40) * 400 * 400 / 1e9)
    assert need[0.5] - need[1.0] == pytest.approx(4 * 2 * 40 * 400 * 400 / 1e9)


def test_three_groups_at_the_sizes_of_flare23_fit_four_gb():
    """The fingerprint of FLARE23 with a group of its own for the vessels."""
    fingerprint = facts.flare23()
    groups = {**fingerprint.labels.groups}
    vessels = tuple(v for v in groups["organ"] if fingerprint.labels.names[v] in ("aorta", "inferior vena cava"))
    groups = {"organ": tuple(v for v in groups["organ"] if v not in vessels), "vessels": vessels, "tumor": (14,)}
    labels = fingerprint.labels.model_copy(update={"groups": groups})
    plan = make_plan(fingerprint.model_copy(update={"labels": labels}), AUTO)
    check_fits(plan, "plan")
    assert plan.budget.inference_memory_gb == 4 and len(plan.labels.groups) == 3


def test_a_batch_that_the_card_does_not_hold_is_refused_by_name():
    with pytest.raises(PlanError, match="trainers.3DOrgan.steps.0.batch_size 640"):
        make_plan(facts.spleen(), AUTO, changes=["trainers.*.steps.*.batch_size=640"])


def test_a_trainer_that_teaches_itself_predicts_within_the_memory_for_predicting():
    """A second joint step whose cases are completed by the first; nothing else predicts both groups."""
    joint = make_plan(facts.flare_mini(), AUTO).trainers["Joint"]
    second = joint.steps[0].model_copy(update={"teachers": {"organ": Run("Joint", 1), "cancer": Run("Joint", 1)}})
    joint = joint.model_copy(update={"steps": (*joint.steps, second)})
    plan = make_plan(facts.flare_mini(), AUTO).model_copy(update={"trainers": {"Joint": joint}})
    assert plan.final_trainers == ("Joint",)
    scan, configuration = plan.scans["large"], plan.configuration_of("Joint")
    need_gb = prediction_gb(scan, configuration, joint.network, plan.labels.outputs, fusion=plan.fusion)
    assert need_gb < plan.budget.gpu_memory_gb
    more, less = (
        plan.model_copy(update={"budget": plan.budget.model_copy(update={"inference_memory_gb": need_gb + change})})
        for change in (0.01, -0.01)
    )
    check_fits(more, "plan")
    with pytest.raises(PlanError) as caught:
        check_fits(less, "plan")
    assert "prediction by Joint" in caught.value.thing and "budget.inference_memory_gb" in caught.value.expected


STATED = ("patch=[96,128,128]", "spacing_mm=[1,0.5,0.5]", "inference_spacing_mm=[1,0.5,0.5]")


def test_a_set_of_one_group_with_thin_slices_is_planned():
    """Its 3D model answers everything too."""
    every = tuple(range(1, 14))
    labels = LabelSet(names=("background", *facts.ORGANS), groups={"organ": every})
    scans = [(1, 300, 512, 1.0, 0.78)]
    found = facts.data_set("A", labels, {every: 40}, scans, foreground_hu=(-60, 100, 200), hu=(-1000, 1500))
    assert make_plan(found, AUTO).final_trainers == ("3DOrgan", "DualDecoder2D")
    with pytest.raises(PlanError, match=r"(?s)inference_spacing_mm.*6.3 GB.*4 GB"):  # what a person states stays
        make_plan(found, AUTO, changes=[f"configurations.3d.{key}" for key in STATED])
