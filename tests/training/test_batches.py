"""Batches: functions of (seed, epoch, index), padded where cases are small, placed about labels when asked."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from flarenet.data.cases import CaseFault
from flarenet.data.labels import HIDDEN
from flarenet.data.places import places_of
from flarenet.planning.plan import Augmentation
from flarenet.preparation.prepare import FULL, normalise
from flarenet.training.augment import augment
from flarenet.training.batches import Batches, Sample, case_weights, grown_window, rare_labels


def sample(name, shape=(5, 24, 20), value=0, looked_for=True):
    """Random intensities; one voxel of label 1 at (3, 20, 2) and, in a second group, of label 2 at (1, 4, 17)."""
    image = np.random.default_rng(value).integers(1, FULL, shape, dtype=np.int16)
    organ, cancer = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    if looked_for:
        organ[3, 20, 2] = 1
        cancer[1, 4, 17] = 2
    flags = {"organ": np.array([looked_for] * 2), "cancer": np.array([looked_for] * 3)}
    maps = {"organ": organ, "cancer": cancer}
    return Sample(name, image, maps, flags, {group: places_of(array)[0] for group, array in maps.items()})


def batches(samples, patch=(16, 16), *, batch_size=2, seed=0, augmentation=None, foreground=0.0):
    return Batches(samples, patch, batch_size=batch_size, seed=seed, augmentation=augmentation, foreground=foreground)


FIVE = [sample(f"case_{i}", value=i) for i in range(5)]


def same(a, b):
    return a.names == b.names and torch.equal(a.image, b.image)


def test_the_same_numbers_give_the_same_batch_and_others_do_not():
    settings = Augmentation(probability=0.8, rotation_deg=10, gamma=0.2)
    one, two = (batches(FIVE, seed=4, augmentation=settings, foreground=0.5) for _ in range(2))
    two.batch(7, 1)  # what was drawn before has no influence
    wanted = one.batch(2, 3)
    again = two.batch(2, 3)
    assert same(wanted, again)
    assert all(torch.equal(wanted.labels[group], again.labels[group]) for group in wanted.labels)
    other_seed = batches(FIVE, seed=5, augmentation=settings, foreground=0.5)
    for other in (one.batch(2, 4), one.batch(3, 3), other_seed.batch(2, 3)):
        assert not torch.equal(wanted.image, other.image)


@pytest.mark.parametrize("patch", [(16, 12), (3, 16, 12)])
def test_a_case_of_hidden_voxels_alone_has_no_place_and_gives_patches_all_the_same(patch):
    whole = sample("scribble")
    maps = {group: np.full_like(array, HIDDEN) for group, array in whole.maps.items()}
    hidden = replace(whole, maps=maps, places={group: places_of(array)[0] for group, array in maps.items()})
    settings = Augmentation(probability=1.0, rotation_deg=10, zoom=0.1)
    batch = batches([hidden], patch, augmentation=settings, foreground=1.0).batch(0, 0)
    assert set(batch.labels["organ"].unique().tolist()) <= {0, HIDDEN}  # 0 is air beside the scan
    assert case_weights([hidden], balance=0, rare={("organ", 1): 5.0}) == [1.0]
    assert rare_labels([hidden, whole, whole], 1.0).keys() == {("organ", 1), ("cancer", 2)}  # which two of three hold


@pytest.mark.parametrize("patch", [(16, 12), (3, 16, 12)])
def test_shapes_types_and_range(patch):
    batch = batches(FIVE, patch, batch_size=3).batch(0, 0)
    assert batch.image.shape == (3, 1, *patch) and batch.image.dtype == torch.float32
    assert 0 <= batch.image.min() and batch.image.max() <= 1
    assert {group: (tuple(m.shape), m.dtype) for group, m in batch.labels.items()} == {
        group: ((3, *patch), torch.uint8) for group in ("organ", "cancer")
    }
    assert batch.annotated["organ"].shape == (3, 2) and batch.annotated["cancer"].dtype == torch.bool


def test_a_patch_is_a_part_of_the_case():
    batch = batches(FIVE, (2, 16, 12), batch_size=1).batch(0, 0)
    image = next(s.image for s in FIVE if s.name == batch.names[0])
    windows = np.lib.stride_tricks.sliding_window_view(image, (2, 16, 12))
    patch = np.rint(batch.image[0, 0].numpy() * FULL).astype(np.int16)
    assert (windows == patch).all(axis=(3, 4, 5)).sum() == 1


@pytest.mark.parametrize("foreground", [0.0, 1.0])
@pytest.mark.parametrize(("patch", "size"), [((26, 21), (24, 20)), ((6, 26, 20), (5, 24, 20))])
def test_a_small_case_lies_anywhere_in_the_patch_with_nothing_about_it(patch, size, foreground):
    """One that lay always at the same end would teach where in the patch an organ is."""
    source, starts = batches(FIVE, patch, batch_size=5, foreground=foreground), set()
    for index in range(12):
        batch = source.batch(0, index)
        for row, image in enumerate(batch.image[:, 0]):
            first, last = (torch.nonzero(image).aminmax(dim=0)[end] for end in (0, 1))
            assert tuple(last - first + 1) == size  # the intensities of the cases are all above 0
            within = torch.zeros(patch, dtype=torch.bool)
            within[tuple(slice(start, start + n) for start, n in zip(first, size))] = True
            assert all(torch.count_nonzero(labels[row][~within]) == 0 for labels in batch.labels.values())
            starts.add(tuple(first.tolist()))
    assert starts == set(itertools.product(*(range(p - n + 1) for p, n in zip(patch, size))))


TURNED = Augmentation(probability=1.0, rotation_deg=45, zoom=0.2, noise_sd=0.0, scale=0.0, shift=0.0)


@pytest.mark.parametrize("patch", [(16, 16), (8, 16, 16)])
def test_what_turns_into_a_patch_is_what_lies_beside_it(patch):
    """A ramp is a ramp however it is turned: its steps are all alike; and what is labelled everywhere stays so."""
    z, y, x = np.indices((16, 48, 48))
    image, organ = (100 + 8 * z + 16 * y + 4 * x).astype(np.int16), np.ones(z.shape, dtype=np.uint8)
    middle = {"organ": np.array([[1, np.ravel_multi_index((8, 24, 24), organ.shape)]], dtype=np.uint32)}
    case = Sample("ramp", image, {"organ": organ}, {"organ": np.array([True, True])}, middle)
    batch = batches([case], patch, batch_size=8, augmentation=TURNED, foreground=1.0).batch(0, 0)
    assert (batch.labels["organ"] == 1).all()
    for axis in range(2, 2 + len(patch)):
        assert torch.diff(batch.image, n=2, dim=axis).abs().max() * FULL < 0.1


def test_no_more_is_read_beside_a_patch_than_the_case_has():
    window = (slice(3, 5), slice(0, 8), slice(4, 6))
    inside, missing = grown_window(window, (8, 8, 100), (50, 50, 50))
    assert inside == (slice(0, 8), slice(0, 8), slice(0, 56)) and missing == [(0, 0), (0, 0), (46, 0)]


@pytest.mark.parametrize("patch", [(24, 20), (5, 24, 20)])
def test_where_the_case_ends_air_and_background_turn_into_the_patch(patch):
    plain, turned = (batches(FIVE, patch, augmentation=change).batch(0, 0) for change in (None, TURNED))
    for row in range(2):
        maps = {group: labels[row].numpy() for group, labels in plain.labels.items()}
        image, maps = augment(plain.image[row].numpy(), maps, TURNED, [0, 0, 0, row])
        np.testing.assert_allclose(turned.image[row].numpy(), image, atol=1e-4)
        assert all((turned.labels[group][row].numpy() == maps[group]).mean() > 0.99 for group in maps)


@pytest.mark.parametrize("patch", [(8, 8), (3, 8, 8)])
def test_foreground_patches_hold_a_label_of_the_case(patch):
    source = batches(FIVE, patch, batch_size=5, foreground=1.0)
    seen = set()
    for index in range(8):
        batch = source.batch(0, index)
        for row in range(5):
            held = {group for group, labels in batch.labels.items() if labels[row].any()}
            assert held, (index, batch.names[row])
            seen |= held
    assert seen == {"organ", "cancer"}


def test_without_foreground_most_small_patches_miss_the_label():
    source = batches(FIVE, (8, 8), batch_size=5, foreground=0.0)
    held = [labels[row].any() for i in range(8) for labels in [source.batch(0, i).labels["organ"]] for row in range(5)]
    assert sum(held) < 10


def test_a_case_without_labels_gives_patches_all_the_same():
    batch = batches([sample("bare", looked_for=False)], batch_size=4, foreground=1.0).batch(0, 0)
    assert batch.image.shape == (4, 1, 16, 16)
    assert not batch.annotated["organ"].any() and not batch.annotated["cancer"].any()


@pytest.mark.parametrize(("batch_size", "round_"), [(1, 5), (5, 1), (10, 1)])
def test_one_round_visits_every_case_equally_often(batch_size, round_):
    source = batches(FIVE, batch_size=batch_size)
    rounds = [
        [name for index in range(round_) for name in source.names(1, start + index)] for start in range(0, 20, round_)
    ]
    often = round_ * batch_size // 5
    assert all(sorted(one) == sorted([s.name for s in FIVE] * often) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1, "the order is shuffled anew"


def test_cases_that_do_not_fill_the_last_batch_come_once_or_twice_a_round():
    source = batches(FIVE, batch_size=2)
    for start in range(0, 30, 3):
        names = [name for index in range(start, start + 3) for name in source.names(0, index)]
        assert sorted(names.count(s.name) for s in FIVE) == [1, 1, 1, 1, 2]


def test_cases_come_round_as_often_as_they_weigh():
    source = Batches(FIVE, (8, 8), batch_size=5, seed=0, augmentation=None, weights=[3, 1, 1, 0, 0])
    names = [name for index in range(20) for name in source.batch(0, index).names]
    assert {name: names.count(name) for name in sorted(set(names))} == {"case_0": 60, "case_1": 20, "case_2": 20}


def test_every_batch_holds_the_patterns_in_proportion():
    """Twelve cases of three patterns, mixed: 6 that answer two labels, 3 that answer one, 3 that answer none."""
    answers = {"both": (1, 2), "one": (1,), "none": ()}
    kinds = ["both", "one", "none", "both"] * 3
    samples = [
        Sample(
            f"{kind}_{i}",
            FIVE[0].image,
            {},
            {"organ": np.array([kind != "none", *(value in answers[kind] for value in (1, 2))])},
            labelled=answers[kind],
        )
        for i, kind in enumerate(kinds)
    ]

    def counted(weights, size):
        source = Batches(samples, (8, 8), batch_size=size, seed=3, augmentation=None, weights=weights)
        names = [source.names(0, index) for index in range(30)]
        return [[sum(name.startswith(kind) for name in drawn) for kind in answers] for drawn in names]

    assert counted(None, 4) == [[2, 1, 1]] * 30
    by_answers = case_weights(samples, balance=1.0, rare={})  # 12, 3 and 3 in all
    assert counted(by_answers, 6) == [[4, 1, 1]] * 30
    often = counted(None, 6)  # 3, 1.5 and 1.5 a batch
    assert all(both == 3 and {one, none} == {1, 2} for both, one, none in often)
    assert np.sum(often, axis=0).tolist() == [90, 45, 45]


@pytest.mark.parametrize(("balance", "expected"), [(0.0, [1, 1, 1]), (0.5, [2, 1, 1]), (1.0, [4, 1, 1])])
def test_a_case_weighs_by_the_labels_it_answers(balance, expected):
    """Four, one and none; a fifth label, which is never there, is asked of the first two and counts in neither."""
    answers = [((1, 2, 3, 4), [True] * 6), ((1,), [True, True, False, False, False, True]), ((), [False] * 6)]
    samples = [
        Sample("a", FIVE[0].image, {}, {"organ": np.array(flags)}, labelled=labelled) for labelled, flags in answers
    ]
    np.testing.assert_allclose(case_weights(samples, balance=balance, rare={}), expected)


def common_and_rare():
    """Eight cases with label 1 of a group, the last also with its label 2."""
    samples = []
    for i in range(8):
        organ = np.zeros((2, 8, 8), dtype=np.uint8)
        organ[0, 4, 4] = 1
        organ[1, 4, 4] = 2 if i == 7 else 0
        places = {"organ": places_of(organ)[0]}
        annotated = {"organ": np.ones(3, dtype=bool)}
        samples.append(Sample(f"case_{i}", organ.astype(np.int16), {"organ": organ}, annotated, places))
    return samples


@pytest.mark.parametrize(("share", "expected"), [(0.0, {}), (0.5, {("organ", 2): 2.0}), (0.125, {})])
def test_a_label_is_rare_by_the_cases_that_hold_it(share, expected):
    """Label 2 is in an eighth of the cases: sqrt(0.5 / 0.125) = 2."""
    assert rare_labels(common_and_rare(), share) == expected


def test_rare_labels_and_their_cases_are_drawn_more_often():
    samples = common_and_rare()
    rare = {("organ", 2): 2.0}
    weights = case_weights(samples, balance=0.0, rare=rare)
    assert weights == [1.0] * 7 + [2.0]
    source = Batches(
        samples, (8, 8), batch_size=9, seed=0, augmentation=None, foreground=1.0, weights=weights, rare=rare
    )
    drawn = [source.batch(0, index) for index in range(100)]
    assert all(batch.names.count("case_7") == 2 for batch in drawn)
    twos = sum((batch.labels["organ"] == 2).any(dim=(1, 2)).sum().item() for batch in drawn)
    assert twos == pytest.approx(200 * 2 / 3, abs=20)  # of the case's labels it is drawn twice as often as the other


def test_neighbouring_slices_come_as_channels_and_the_outermost_repeats():
    source = Batches(FIVE, (24, 20), batch_size=5, seed=0, augmentation=None, neighbours=1)
    by_name = {s.name: normalise(s.image) for s in FIVE}
    seen = set()
    for index in range(12):
        batch = source.batch(0, index)
        assert batch.image.shape == (5, 3, 24, 20)
        for name, channels in zip(batch.names, batch.image.numpy()):
            slices = by_name[name]
            z = next(z for z in range(5) if np.array_equal(slices[z], channels[1]))
            np.testing.assert_array_equal(channels, slices[[max(z - 1, 0), z, min(z + 1, 4)]])
            seen.add(z)
    assert seen == set(range(5))


def test_a_group_without_a_map_is_background():
    bare = Sample("bare", FIVE[0].image, {}, {"organ": np.array([True, False])})
    labels = batches([bare]).batch(0, 0).labels["organ"]
    assert labels.shape == (2, 16, 16) and not labels.any()


def test_an_unforeseen_error_names_the_case():
    broken = Sample("broken", np.zeros((5, 24, 20), dtype=complex), {}, {"organ": np.array([True])})
    with pytest.raises(CaseFault, match="case broken: "):
        batches([broken]).batch(0, 0)
