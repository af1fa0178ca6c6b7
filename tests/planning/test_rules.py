from dataclasses import replace

import numpy as np
import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import UsageError
from flarenet.planning.budget import AUTO, PAPER, Budget, Request
from flarenet.planning.cost.memory import prediction_gb, scans_of
from flarenet.planning.measuring.fingerprint import Fingerprint, summarise
from flarenet.planning.measuring.measure import BINS, LOWEST_HU, CaseFingerprint, LabelFacts, pack_histogram
from flarenet.planning.plan import Configuration
from flarenet.planning.rules import configurations as rules
from flarenet.planning.rules import intensities
from flarenet.planning.rules.presets import network_3d
from tests.planning import facts

BUDGET = Budget(gpu_memory_gb=24.0)
LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})


def histogram_with(lowest: int, highest: int) -> str:
    """100 voxels at each end and 800 at 50 HU: the 0.5 and 99.5 percentiles are the ends."""
    counts = np.zeros(BINS, dtype=np.int64)
    for hu, count in ((lowest, 100), (50, 800), (highest, 100)):
        counts[hu - LOWEST_HU] += count
    return pack_histogram(counts)


def measured(
    name="a", *, spacing_mm=(2.5, 0.8, 0.8), body_shape=(100, 250, 400), hu=(-1000.0, 1200.0), foreground=(-60, 200)
):
    return CaseFingerprint(
        name=name,
        shape=(120, 512, 512),
        spacing_mm=spacing_mm,
        body_shape=body_shape,
        min_hu=hu[0],
        max_hu=hu[1],
        annotated=(1,),
        voxels={1: 1000},
        histogram_of="foreground",
        histogram=histogram_with(*foreground),
        image_sha256=name,
        key=name,
    )


def data_set(*cases: CaseFingerprint) -> Fingerprint:
    return summarise("set", LABELS, cases)


def test_a_plain_set_is_clipped_to_its_foreground_and_at_least_to_soft_tissue():
    window, why = intensities.clip_window(data_set(measured(foreground=(-60, 283))))
    assert window == (-160, 280)
    assert "-60 and 283 HU" in why and "storage" not in why


def test_gas_and_metal_do_not_widen_the_window_without_end():
    assert intensities.clip_window(data_set(measured(foreground=(-969, 1100))))[0] == (-325, 325)


def facts_of(mean_hu: float, reach_hu: float) -> LabelFacts:
    return LabelFacts(
        voxels=1000, mean_hu=mean_hu, percentile_05_hu=mean_hu - reach_hu, percentile_95_hu=mean_hu + reach_hu
    )


@pytest.mark.parametrize(
    ("mean_hu", "foreground", "window"),
    [
        (-850, (-1005, -695), (-1005, 240)),  # a lung
        (700, (56, 1344), (-160, 1340)),  # a femur
        (700, (-60, 200), (-160, 740)),  # a bone so small that it moves no percentile of the foreground
        (-320, (-700, 100), (-325, 240)),
    ],
)
def test_labels_that_lie_beyond_the_widest_window_widen_it(mean_hu, foreground, window):
    case = measured(foreground=foreground, hu=(-1024.0, 2000.0))
    told = case.model_copy(update={"labels": {1: facts_of(mean_hu, 40)}})
    found, why = intensities.clip_window(data_set(told))
    assert found == window
    assert ("liver mostly beyond -325 to 325 HU" in why) == (mean_hu != -320)


def test_sources_cut_on_storage_are_clipped_to_what_all_of_them_kept():
    eighteen = [measured(f"a{i}", hu=(-125.0, 275.0), foreground=(-125, 253)) for i in range(18)]
    eleven = [measured(f"b{i}", hu=(-160.0, 240.0), foreground=(-100, 200)) for i in range(11)]
    six = [measured(f"c{i}", hu=(-1000.0, 1000.0), foreground=(-100, 200)) for i in range(6)]
    window, why = intensities.clip_window(data_set(*eighteen, *eleven, *six))
    assert window == (-125, 240)
    assert "-125 or 240 HU on storage" in why


@pytest.mark.parametrize("count", [1, 2, 10, 11, 40])
def test_one_odd_case_does_not_move_the_window_and_two_of_few_do(count):
    usual = [measured(f"a{i:02d}") for i in range(count)]
    odd, another = (measured(name, hu=(-100.0, 200.0)) for name in ("odd", "another"))
    assert intensities.clip_window(data_set(*usual, odd))[0] == (-160, 240)
    window, why = intensities.clip_window(data_set(*usual, odd, another))
    assert window == ((-100, 200) if count < 40 else (-160, 240))
    assert ("-100 or 200 HU on storage" in why) == (count < 40)


def test_the_only_case_shows_where_its_source_was_cut():
    assert intensities.clip_window(data_set(measured(hu=(-100.0, 200.0))))[0] == (-100, 200)


def test_sources_without_a_common_window_keep_the_wide_one():
    low = [measured(f"low{i}", hu=(-1000.0, 20.0)) for i in range(2)]
    high = [measured(f"high{i}", hu=(0.0, 300.0)) for i in range(2)]
    window, why = intensities.clip_window(data_set(*low, *high))
    assert window == (-160, 240)
    assert "no window" in why


def test_2d_pixels_are_the_median_and_let_the_body_fit_into_the_largest_patch():
    assert rules.spacing_2d(data_set(measured(spacing_mm=(5.0, 2.0, 2.0))), BUDGET)[0] == (None, 2.0, 2.0)
    # 192 mm of body in 384 pixels of 0.5 mm stay; 384 mm in 768 pixels become 512 of 0.75 mm
    small = measured(spacing_mm=(3.0, 0.5, 0.5), body_shape=(20, 384, 384))
    assert rules.spacing_2d(data_set(small), BUDGET)[0] == (None, 0.5, 0.5)
    wide = measured(spacing_mm=(1.0, 0.5, 0.5), body_shape=(300, 400, 768))
    assert rules.spacing_2d(data_set(wide), BUDGET)[0] == (None, 0.75, 0.75)


def seen_2d(found, **budget):
    return rules.make_outline(found, Request("auto", Budget(**budget))).configurations["2d"]


def test_2d_prediction_sees_all_slices_of_the_median_scan_where_there_is_time():
    thin = seen_2d(data_set(measured(spacing_mm=(1.0, 2.0, 2.0))))
    assert thin.inference_spacing_mm == (None, 2.0, 2.0)
    assert "1 mm apart in the median case, and there is time" in thin.why["inference_spacing_mm"]
    # slices of 3 mm are all seen too; a scan of thinner ones beside them costs no more than it has to
    thick = seen_2d(data_set(measured(spacing_mm=(3.0, 2.0, 2.0))))
    assert thick.inference_spacing_mm == (2.5, 2.0, 2.0)


def test_a_specimen_is_thinned_by_its_own_size():
    """400 slices of 0.05 mm: half as many, then in steps of 8 pixels; in steps of 2.5 mm 8 would be left."""
    micro = measured(spacing_mm=(0.05, 0.05, 0.05), body_shape=(400, 400, 400))
    found = data_set(micro.model_copy(update={"shape": (400, 400, 400)}))
    made = [seen_2d(found, inference_seconds=seconds) for seconds in (60.0, 4.0, 0.1)]
    assert [c.inference_spacing_mm[0] for c in made] == [None, 0.1, 0.4]
    assert [c.overlap for c in made] == [0.5, 0.5, 0.1]


def test_2d_patch_holds_the_median_body():
    # 115 x 165 pixels of 2 mm: the next multiples of 32 are 128 and 192
    small = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(90, 115, 165)))
    assert rules.patch_2d(small, BUDGET, (None, 2.0, 2.0))[0] == (128, 192)
    # exactly 128 stays 128; 600 pixels are more than the largest patch
    wide = data_set(measured(spacing_mm=(3.0, 1.0, 1.0), body_shape=(90, 128, 600)))
    assert rules.patch_2d(wide, BUDGET, (None, 1.0, 1.0))[0] == (128, 512)


def test_3d_pixels_are_no_finer_than_half_the_slice_distance():
    assert rules.spacing_3d(data_set(measured(spacing_mm=(5.0, 0.8, 0.8))), BUDGET)[0] == (5.0, 2.5, 2.5)
    assert rules.spacing_3d(data_set(measured(spacing_mm=(3.0, 2.0, 2.0))), BUDGET)[0] == (3.0, 2.0, 2.0)


@pytest.mark.parametrize(
    "median, planned, said",
    [
        ((0.5, 0.5, 4.0), (2.0, 2.0, 4.0), "0.50 x 0.50 x 4.00 mm"),  # sagittal
        ((0.5, 4.0, 0.6), (2.0, 4.0, 2.0), "half of the coarsest"),  # coronal
        ((0.3, 0.8, 0.8), (0.4, 0.8, 0.8), "half of the coarsest"),  # axial, slices closer than pixels
        ((4.0, 0.5, 0.5), (4.0, 2.0, 2.0), "slices are 4.00 mm apart"),
    ],
)
def test_the_coarsest_axis_is_the_one_that_is_whichever_way_the_slices_lie(median, planned, said):
    spacing, why = rules.spacing_3d(data_set(measured(spacing_mm=median)), BUDGET)
    assert spacing == planned and said in why


def test_3d_patch_is_a_cube_in_space_of_at_most_128_cubed_voxels():
    # 1 mm cubes and a body of 300 mm: 128 each way
    body = data_set(measured(spacing_mm=(1.0, 1.0, 1.0), body_shape=(300, 300, 300)))
    assert rules.patch_3d(body, BUDGET, (1.0, 1.0, 1.0))[0] == (128, 128, 128)
    # 3 x 2 x 2 mm: the cube root of 12 times 128 is 293 mm, 97 x 146 x 146 voxels, down to multiples of 16
    body = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(200, 200, 200)))
    assert rules.patch_3d(body, BUDGET, (3.0, 2.0, 2.0))[0] == (96, 144, 144)


def test_3d_patch_is_not_larger_than_the_body():
    # 40 planes of 3 mm need 48; the other axes keep the cube's 144
    body = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(40, 200, 200)))
    assert rules.patch_3d(body, BUDGET, (3.0, 2.0, 2.0))[0] == (48, 144, 144)
    # a body of ten planes still gets the shortest axis that four halvings can work with
    body = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(10, 200, 200)))
    patch, why = rules.patch_3d(body, BUDGET, (3.0, 2.0, 2.0))
    assert patch == (32, 144, 144)
    usual = rules.patch_3d(data_set(measured()), BUDGET, (2.5, 1.25, 1.25))
    assert "but no fewer than 32" in why and "but no fewer" not in usual[1]


def test_a_small_card_gets_a_smaller_patch_and_says_so():
    body = data_set(measured(spacing_mm=(1.0, 1.0, 1.0), body_shape=(300, 300, 400)))
    large, small = (rules.patch_3d(body, Budget(gpu_memory_gb=gb), (1.0, 1.0, 1.0)) for gb in (16.0, 4.0))
    assert large[0] == (128, 128, 128) and small[0] == (96, 96, 96)
    assert "card holds two" in small[1]
    patch, why = rules.patch_2d(body, Budget(gpu_memory_gb=4.0), (None, 1.0, 1.0))
    assert patch == (224, 224) and "the card holds 16 or more" in why


def test_a_scan_too_fine_to_be_held_is_coarsened_and_says_why():
    """40 mm at 0.02 mm are 2000 voxels an axis: 8e9 in all, at 3 bytes 24 GB, three times the 8 GB of a process."""
    micro = measured(spacing_mm=(0.02, 0.02, 0.02), body_shape=(2000, 2000, 2000))
    found = data_set(micro.model_copy(update={"shape": (2000, 2000, 2000)}))
    spacing, why = rules.spacing_3d(found, BUDGET)
    assert spacing[0] == pytest.approx(0.02 * 3 ** (1 / 3), rel=0.02)
    assert "24 GB" in why and "1.45 times coarser" in why


def test_voxels_of_a_hundredth_of_a_mm_are_coarsened_by_a_hundredth_too():
    """1110^3 voxels are 1.368e9, at 3 bytes 4.10 GB; the cube root of 4.10 / 4 is 1.0085, rounded up to 1.01."""
    micro = measured(spacing_mm=(0.02, 0.02, 0.02), body_shape=(1110, 1110, 1110))
    found = data_set(micro.model_copy(update={"shape": (1110, 1110, 1110)}))
    spacing, why = rules.spacing_3d(found, Budget(host_memory_gb=4.0))
    assert spacing == (0.0202, 0.0202, 0.0202) and "1.01 times coarser" in why


def test_what_is_coarsened_to_be_held_is_rounded_so_that_it_is():
    """1440^3 voxels at 3 bytes are 8.96 GB. 1.04 times 0.11 mm is 0.1144: at 0.114 it is 8.05 GB, at 0.115 7.84 GB."""
    fine = measured(spacing_mm=(0.11, 0.11, 0.11), body_shape=(1440, 1440, 1440))
    found = data_set(fine.model_copy(update={"shape": (1440, 1440, 1440)}))
    spacing, why = rules.spacing_3d(found, BUDGET)
    assert spacing == (0.115, 0.115, 0.115) and "1.04 times coarser" in why
    assert 7.8 < 3 * scans_of(found)["large"].voxels_at(spacing) / 1e9 <= BUDGET.host_memory_gb


def test_little_time_costs_slices_closer_than_a_few_mm_then_overlap_and_then_more_slices():
    found = data_set(measured(spacing_mm=(1.0, 0.8, 0.8), body_shape=(100, 400, 400)))
    made = [seen_2d(found, inference_seconds=seconds, gpu_memory_gb=8.0) for seconds in (60.0, 2.0, 0.1)]
    assert [c.overlap for c in made] == [0.5, 0.25, 0.1]
    assert [c.inference_spacing_mm[0] for c in made] == [None, 2.5, 5.0]
    assert "above the budget of 0.1 s" in made[2].why["overlap"]


def of_one_group(count, scan, unlabelled=0):
    """40 scans in which all of `count` organs were looked for, and some in which nothing was."""
    names = ("background", *(f"organ {value}" for value in range(1, count + 1)))
    every = tuple(range(1, count + 1))
    cohorts = {every: 40, **({(): unlabelled} if unlabelled else {})}
    labels = LabelSet(names=names, groups={"organ": every})
    return facts.data_set("set", labels, cohorts, [scan], foreground_hu=(-60, 100, 200), hu=(-1000, 1500))


THIN_ABDOMEN = (1, 300, 512, 1.0, 0.78)


@pytest.mark.parametrize(
    ("count", "scan", "spacing_mm", "patch"),
    [
        (104, (1, 300, 270, 1.5, 1.5), (2.325, 2.325, 2.325), (64, 112, 128)),
        (30, THIN_ABDOMEN, (1.15, 0.897, 0.897), (64, 128, 128)),
        (1, (1, 3000, 512, 0.5, 0.78), (0.5, 0.78, 0.78), (80, 96, 96)),
    ],
)
def test_a_3d_model_whose_answer_is_the_result_fits_the_memory_of_prediction(count, scan, spacing_mm, patch):
    """First the patch is thinner, then all is coarser, in training and prediction alike."""
    found, budget = of_one_group(count, scan), Budget()
    deep = rules.make_outline(found, Request("auto", budget)).configurations["3d"]
    assert (deep.spacing_mm, deep.inference_spacing_mm, deep.patch) == (spacing_mm, spacing_mm, patch)
    spec = network_3d(budget, patch, ("organ",))
    assert 3 < prediction_gb(scans_of(found)["large"], deep, spec, found.labels.outputs) <= 4
    assert "voxels along z, because to predict a large scan" in deep.why["patch"]
    assert ("times coarser" in deep.why["spacing_mm"]) == (spacing_mm[0] > scan[3])


def test_a_3d_model_that_teaches_has_the_memory_of_the_card():
    found = of_one_group(30, THIN_ABDOMEN, unlabelled=10)
    whole, annotated = (
        rules.make_outline(found, replace(AUTO, without=left_out)).configurations["3d"]
        for left_out in (None, "unlabelled")
    )
    assert (whole.spacing_mm, whole.patch) == ((1.0, 0.78, 0.78), (96, 128, 128))
    assert (annotated.spacing_mm, annotated.patch) == ((1.15, 0.897, 0.897), (64, 128, 128))


def test_what_no_coarser_spacing_makes_fit_stays_as_it_is():
    request = Request("auto", Budget(inference_memory_gb=0.5))
    deep = rules.make_outline(of_one_group(13, THIN_ABDOMEN), request)
    assert deep.configurations["3d"].spacing_mm == (1.0, 0.78, 0.78)


def test_ct_has_a_window_and_anything_else_its_own_percentiles():
    assert intensities.normalisation(data_set(measured()))[0] == "window"
    kind, why = intensities.normalisation(data_set(measured()).model_copy(update={"modality": "T2 MR"}))
    assert kind == "percentile" and "T2 MR has no unit" in why


def test_the_paper_s_recipe_has_only_the_paper_s_size():
    with pytest.raises(UsageError, match="--size m"):
        rules.make_outline(data_set(measured()), Request("paper", Budget(size="m")))


def test_the_paper_s_numbers_do_not_depend_on_the_data():
    other = data_set(measured(spacing_mm=(5.0, 2.0, 2.0), hu=(-125.0, 200.0)))
    first = rules.make_outline(data_set(measured()), PAPER).configurations
    second = rules.make_outline(other, PAPER).configurations
    assert first == second
    assert first["3d"].spacing_mm == (1, 1, 1) and first["3d"].patch == (128, 128, 128)
    assert first["2d"].spacing_mm == (None, 1, 1) and first["2d"].patch == (224, 224)
    assert first["2d"].inference_spacing_mm == (2.5, 1, 1)
    assert first["2d"].clip_hu == first["3d"].clip_hu == (-200, 300)


def test_the_paper_s_window_is_of_hu_and_not_asked_of_other_images():
    mr = data_set(measured()).model_copy(update={"modality": "MR"})
    made, ct = (rules.make_outline(found, PAPER).configurations for found in (mr, data_set(measured())))
    for name, configuration in made.items():
        assert (configuration.normalisation, configuration.clip_hu) == ("percentile", None)
        assert "not the paper's window, which is in HU: MR has no unit" in configuration.why["normalisation"]
        unlike = {"normalisation", "clip_hu", "why"}
        assert configuration.model_dump(exclude=unlike) == ct[name].model_dump(exclude=unlike)


@pytest.mark.parametrize("asked", [AUTO, PAPER])
def test_every_number_has_a_reason(asked):
    for name, configuration in rules.make_outline(data_set(measured()), asked).configurations.items():
        numbers = set(Configuration.model_fields) - {"why"} - ({"neighbours"} if name == "3d" else set())
        assert set(configuration.why) == numbers
        assert all(len(why) > 10 for why in configuration.why.values())
