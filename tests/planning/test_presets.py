import pytest

from flarenet.planning.budget import Budget
from flarenet.planning.cost.speed import windows_along
from flarenet.planning.rules.epochs import batches_of, epochs_for, paced
from flarenet.planning.rules.presets import MOST_SAMPLES, batch_size, network, paper_network, resolutions

OUTPUTS = {"organ": 13, "cancer": 1}
GROUPS = tuple(OUTPUTS)


@pytest.mark.parametrize(
    ("patch", "count"),
    [
        ((224, 224), 5),  # the paper's: 14 x 14 at the coarsest
        ((128, 128, 128), 5),  # the paper's: 8 x 8 x 8
        ((512, 512), 7),  # 8 x 8
        ((352, 512), 6),  # 11 x 16: an odd axis is not halved
        ((32, 128, 128), 4),  # 4 x 16 x 16: no fewer than 4
        ((16, 16), 3),  # the fewest there are
    ],
)
def test_depth_follows_the_patch(patch, count):
    assert resolutions(patch) == count


def test_the_paper_s_networks_are_the_same_for_any_patch():
    flat, deep = paper_network(2, GROUPS), paper_network(3, ("organ",))
    assert (flat.kind, flat.features, flat.blocks) == ("dual_decoder", (16, 32, 64, 128, 256, 128), ())
    assert (deep.kind, deep.features, deep.blocks) == ("unet", (16, 16, 32, 64, 128, 16), ())


def test_s_is_narrower_than_the_paper_s_network_at_full_resolution_of_slices():
    assert network("s", (224, 224), GROUPS).features == (32, 32, 64, 128, 256, 32)
    assert network("s", (512, 512), GROUPS).features == (32, 32, 64, 128, 256, 256, 256, 32)
    assert network("s", (128, 128, 128), ("organ",)).features == (16, 16, 32, 64, 128, 16)


def test_larger_sizes_are_wider_and_residual_and_stop_widening():
    flat, deep = network("m", (512, 512), GROUPS), network("l", (160, 160, 160), ("organ",))
    assert (flat.kind, flat.features) == ("residual_dual_decoder", (32, 64, 128, 256, 512, 512, 512, 32))
    assert (deep.kind, deep.features) == ("residual_unet", (48, 96, 192, 320, 320, 48))
    assert deep.blocks == (1, 3, 4, 6, 6)


def test_the_batch_is_what_the_card_holds():
    spec = paper_network(2, GROUPS)
    sizes = [batch_size(spec, OUTPUTS, (224, 224), budget=Budget(gpu_memory_gb=gb)) for gb in (64.0, 32.0, 16.0, 1.0)]
    assert [samples for samples, _ in sizes] == [128, 64, 32, 16]
    assert "the paper trains on no more" in sizes[0][1] and "twice as many do not fit" in sizes[1][1]
    samples, why = batch_size(spec, OUTPUTS, (224, 224), budget=Budget(gpu_memory_gb=8.0), fewest=MOST_SAMPLES[2])
    assert samples == 128 and "the paper trains on no more" in why


@pytest.mark.parametrize(("slices", "samples"), [(20_000, 128), (16_383, 64), (4096, 32), (2656, 16), (10, 16)])
def test_a_small_set_has_small_batches(slices, samples):
    spec, large = network("s", (160, 192), GROUPS), Budget(gpu_memory_gb=80.0)
    found, why = batch_size(spec, OUTPUTS, (160, 192), budget=large, slices=slices)
    assert found == samples
    assert ("fewer than 128 updates" in why) == (samples < 128)
    assert batch_size(spec, OUTPUTS, (160, 192), budget=large, slices=slices, fewest=MOST_SAMPLES[2])[0] == 128


def test_epochs_make_a_number_of_updates_within_bounds():
    assert batches_of(1000, 16, most=500) == 63
    assert batches_of(100_000, 16, most=500) == 500
    assert epochs_for(40_000, 500, most=200)[0] == 80
    assert epochs_for(40_000, 20, most=200)[0] == 200
    assert epochs_for(40_000, 4000, most=200)[0] == 20


def test_a_small_set_is_shown_more_often_until_it_makes_four_thousand_updates():
    """15 samples are a batch of 16, and 200 epochs of it 200 updates; 16 x 20 samples are shown once, as they were."""
    few, enough = (paced(samples, 16, updates=40_000, most_epochs=200) for samples in (15, 320))
    assert few[:2] == enough[:2] == (20, 200)
    assert "4,000 updates in epochs of 20 batches, where 1 would show every sample" in few[2]
    assert "would show every sample 2000 times" in enough[2]
    assert paced(10, 4, updates=40_000, most_epochs=1000)[:2] == (4, 1000)
    assert paced(15, 16, updates=40_000, most_epochs=200, longest=2)[0] == 2


@pytest.mark.parametrize(
    ("size", "overlap", "count"), [(100, 0.5, 1), (128, 0.5, 1), (129, 0.5, 2), (256, 0.5, 3), (512, 0.0, 4)]
)
def test_windows_along_an_axis(size, overlap, count):
    assert windows_along(size, 128, overlap) == count
