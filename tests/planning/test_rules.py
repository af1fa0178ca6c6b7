import numpy as np
import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import UsageError
from flarenet.planning import rules
from flarenet.planning.budget import PAPER, Budget
from flarenet.planning.fingerprint import Fingerprint, summarise
from flarenet.planning.measure import BINS, LOWEST_HU, CaseFingerprint, pack_histogram
from flarenet.planning.plan import Configuration

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
    window, why = rules.clip_window(data_set(measured(foreground=(-60, 283))))
    assert window == (-160, 280)
    assert "-60 and 283 HU" in why and "storage" not in why


def test_gas_and_metal_do_not_widen_the_window_without_end():
    assert rules.clip_window(data_set(measured(foreground=(-969, 1100))))[0] == (-325, 325)


def test_sources_cut_on_storage_are_clipped_to_what_all_of_them_kept():
    eighteen = [measured(f"a{i}", hu=(-125.0, 275.0), foreground=(-125, 253)) for i in range(18)]
    eleven = [measured(f"b{i}", hu=(-160.0, 240.0), foreground=(-100, 200)) for i in range(11)]
    six = [measured(f"c{i}", hu=(-1000.0, 1000.0), foreground=(-100, 200)) for i in range(6)]
    window, why = rules.clip_window(data_set(*eighteen, *eleven, *six))
    assert window == (-125, 240)
    assert "-125 or 240 HU on storage" in why


def test_one_odd_case_in_forty_does_not_move_the_window():
    usual = [measured(f"a{i:02d}") for i in range(40)]
    odd = measured("odd", hu=(-10.0, 90.0))
    assert rules.clip_window(data_set(*usual, odd))[0] == rules.clip_window(data_set(*usual))[0]


def test_sources_without_a_common_window_keep_the_wide_one():
    low, high = measured("low", hu=(-1000.0, 20.0)), measured("high", hu=(0.0, 300.0))
    window, why = rules.clip_window(data_set(low, high))
    assert window == (-160, 240)
    assert "no window" in why


def test_2d_pixels_are_the_median_and_let_the_body_fit_into_the_largest_patch():
    assert rules.spacing_2d(data_set(measured(spacing_mm=(5.0, 2.0, 2.0))), BUDGET)[0] == (None, 2.0, 2.0)
    # 192 mm of body in 384 pixels of 0.5 mm stay; 384 mm in 768 pixels become 512 of 0.75 mm
    small = measured(spacing_mm=(3.0, 0.5, 0.5), body_shape=(20, 384, 384))
    assert rules.spacing_2d(data_set(small), BUDGET)[0] == (None, 0.5, 0.5)
    wide = measured(spacing_mm=(1.0, 0.5, 0.5), body_shape=(300, 400, 768))
    assert rules.spacing_2d(data_set(wide), BUDGET)[0] == (None, 0.75, 0.75)


def test_2d_prediction_thins_slices_closer_than_two_and_a_half_millimetres():
    made = rules.make_outline(data_set(measured(spacing_mm=(1.0, 2.0, 2.0))), "auto", BUDGET).configurations["2d"]
    assert made.inference_spacing_mm == (2.5, 2.0, 2.0)


def test_2d_patch_holds_the_median_body():
    # 115 x 165 pixels of 2 mm: the next multiples of 32 are 128 and 192
    small = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(90, 115, 165)))
    assert rules.patch_2d(small, BUDGET)[0] == (128, 192)
    # exactly 128 stays 128; 600 pixels are more than the largest patch
    wide = data_set(measured(spacing_mm=(3.0, 1.0, 1.0), body_shape=(90, 128, 600)))
    assert rules.patch_2d(wide, BUDGET)[0] == (128, 512)


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
    assert rules.patch_3d(body, BUDGET)[0] == (128, 128, 128)
    # 3 x 2 x 2 mm: the cube root of 12 times 128 is 293 mm, 97 x 146 x 146 voxels, down to multiples of 16
    body = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(200, 200, 200)))
    assert rules.patch_3d(body, BUDGET)[0] == (96, 144, 144)


def test_3d_patch_is_not_larger_than_the_body():
    # 40 planes of 3 mm need 48; the other axes keep the cube's 144
    body = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(40, 200, 200)))
    assert rules.patch_3d(body, BUDGET)[0] == (48, 144, 144)
    # a body of ten planes still gets the shortest axis that four halvings can work with
    body = data_set(measured(spacing_mm=(3.0, 2.0, 2.0), body_shape=(10, 200, 200)))
    assert rules.patch_3d(body, BUDGET)[0] == (32, 144, 144)


def test_a_small_card_gets_a_smaller_patch_and_says_so():
    body = data_set(measured(spacing_mm=(1.0, 1.0, 1.0), body_shape=(300, 300, 400)))
    large, small = (rules.patch_3d(body, Budget(gpu_memory_gb=gb)) for gb in (16.0, 4.0))
    assert large[0] == (128, 128, 128) and small[0] == (96, 96, 96)
    assert "card holds two" in small[1]
    patch, why = rules.patch_2d(body, Budget(gpu_memory_gb=8.0))
    assert patch == (224, 224) and "the card holds 16 or more" in why


def test_a_scan_too_fine_to_be_held_is_coarsened_and_says_why():
    """40 mm at 0.02 mm are 2000 voxels an axis: 8e9 in all, at 3 bytes 24 GB, three times the 8 GB of a process."""
    micro = measured(spacing_mm=(0.02, 0.02, 0.02), body_shape=(2000, 2000, 2000))
    found = data_set(micro.model_copy(update={"shape": (2000, 2000, 2000)}))
    spacing, why = rules.spacing_3d(found, BUDGET)
    assert spacing[0] == pytest.approx(0.02 * 3 ** (1 / 3), rel=0.02)
    assert "24 GB" in why and "1.45 times coarser" in why


def test_little_time_costs_overlap_first_and_then_slices():
    found = data_set(measured(spacing_mm=(1.0, 0.8, 0.8), body_shape=(100, 400, 400)))
    made = [
        rules.make_outline(found, "auto", Budget(inference_seconds=seconds)).configurations["2d"]
        for seconds in (60.0, 4.0, 0.1)
    ]
    assert [c.overlap for c in made] == [0.5, 0.25, 0.1]
    assert [c.inference_spacing_mm[0] for c in made] == [2.5, 2.5, 5.0]
    assert "above the budget of 0.1 s" in made[2].why["overlap"]


def test_ct_has_a_window_and_anything_else_its_own_percentiles():
    assert rules.normalisation(data_set(measured()))[0] == "window"
    kind, why = rules.normalisation(data_set(measured()).model_copy(update={"modality": "T2 MR"}))
    assert kind == "percentile" and "T2 MR has no unit" in why


def test_the_paper_s_recipe_has_only_the_paper_s_size():
    with pytest.raises(UsageError, match="--size m"):
        rules.make_outline(data_set(measured()), "paper", Budget(size="m"))


def test_the_paper_s_numbers_do_not_depend_on_the_data():
    other = data_set(measured(spacing_mm=(5.0, 2.0, 2.0), hu=(-125.0, 200.0)))
    first = rules.make_outline(data_set(measured()), "paper", PAPER).configurations
    second = rules.make_outline(other, "paper", PAPER).configurations
    assert first == second
    assert first["3d"].spacing_mm == (1, 1, 1) and first["3d"].patch == (128, 128, 128)
    assert first["2d"].spacing_mm == (None, 1, 1) and first["2d"].patch == (224, 224)
    assert first["2d"].inference_spacing_mm == (2.5, 1, 1)
    assert first["2d"].clip_hu == first["3d"].clip_hu == (-200, 300)


@pytest.mark.parametrize("recipe", ["auto", "paper"])
def test_every_number_has_a_reason(recipe):
    for name, configuration in rules.make_outline(data_set(measured()), recipe, BUDGET).configurations.items():
        numbers = set(Configuration.model_fields) - {"why"} - ({"neighbours"} if name == "3d" else set())
        assert set(configuration.why) == numbers
        assert all(len(why) > 10 for why in configuration.why.values())


def test_an_unknown_recipe_names_the_real_ones():
    with pytest.raises(UsageError, match="auto, paper"):
        rules.make_outline(data_set(measured()), "papr", BUDGET)
