from dataclasses import replace

import numpy as np
import pytest
import torch

from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.planning.plan import Update
from flarenet.training import validate
from flarenet.training.batches import Batch
from flarenet.training.examples import Examples
from flarenet.training.losses import Loss
from tests.training.tiny import Network, batches, held_out

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


def test_the_dice_of_what_is_found_by_a_threshold():
    class Threshold(Network):
        def forward(self, image, groups):
            found = (image > 1000.5 / 2047).float()
            return {group: torch.cat([1 - found, found], dim=1) for group in groups}

    findings = held_out()(Threshold())
    assert findings.dice == {"organ": 1.0} and findings.labels == {"bright": 1.0}
    assert sorted(example.case for example in findings.examples) == ["c0", "c1", "c2"]
    for example in findings.examples:
        assert np.array_equal(example.labels, example.predicted)


def test_a_batch_is_judged_in_the_parts_that_training_works_on():
    sizes = []

    class Watched(Network):
        def forward(self, image, groups):
            sizes.append(len(image))
            return super().forward(image, groups)

    torch.manual_seed(0)
    network = Watched().eval()
    whole = held_out()(network)
    parts = held_out(accumulate=2)(network)
    assert sizes == [2] * 2 + [1] * 8  # of two batches each row twice: what is summed over the batch comes first
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5) and parts.dice == pytest.approx(whole.dice, rel=1e-3)
    assert [example.case for example in parts.examples] == [example.case for example in whole.examples]


def test_counts_are_over_what_was_asked_and_is_not_hidden():
    target = torch.tensor([[[1, 2, 0, HIDDEN]], [[0, 1, 1, 0]], [[0, 0, 0, 0]]], dtype=torch.uint8)
    predicted = torch.tensor([[[1, 1, 0, 2]], [[2, 1, 0, 0]], [[1, 2, 0, 0]]])
    annotated = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    # label 1: a hit in each of two rows, sizes 1 + 2 and 2 + 1; label 2, asked in the first row: drawn once
    assert validate.dice_counts(predicted, target, annotated).tolist() == [[4, 0], [6, 1]]


def test_what_processes_average_lies_on_the_device_of_the_run(monkeypatch):
    """Processes with GPUs exchange no tensor of a CPU; torch's device without numbers stands for a GPU."""
    device, lay_on, nothing = torch.device("meta"), [], torch.zeros(())

    def averaged(values):
        lay_on.append(values.device)
        return nothing

    monkeypatch.setattr(validate, "averaged", averaged)
    judged = validate.HeldOut(
        batches(),
        count=1,
        labels=LABELS,
        groups=(),
        objective=lambda network, batch: Loss(nothing, nothing),
        device=device,
        update=Update(),
    )
    judged(Network())
    assert lay_on == [device]


def batch(organ, cancer, *, annotated, image=None):
    """Patches of cases c0, c1, ... from nested lists of group maps."""
    labels = {"organ": torch.tensor(organ, dtype=torch.uint8), "cancer": torch.tensor(cancer, dtype=torch.uint8)}
    flags = {group: torch.tensor([row[group] for row in annotated]) for group in labels}
    shape = labels["organ"].shape
    image = torch.zeros(shape[0], 1, *shape[1:]) if image is None else image
    return Batch(image, labels, flags, tuple(f"c{row}" for row in range(shape[0])))


ALL = {"organ": [True, True, True], "cancer": [True, True]}


def test_examples_are_those_with_the_most_labels_and_show_what_was_not_annotated():
    one = batch([[[0, 1]], [[1, HIDDEN]]], [[[0, 0]], [[0, 1]]], annotated=[ALL, ALL])
    two = batch([[[1, 2]], [[1, 2]]], [[[0, 0]], [[0, 0]]], annotated=[{**ALL, "cancer": [False, False]}, ALL])
    nothing = {group: torch.zeros(2, 1, 2, dtype=torch.long) for group in LABELS.groups}
    found = Examples(LABELS, ("organ", "cancer"))
    found.add(one, nothing)
    found.add(two, {**nothing, "cancer": torch.tensor([[[1, 0]], [[0, 0]]])})
    first, second = found.best()
    assert (first.case, second.case) == ("c0", "c1")
    assert first.labels.tolist() == [[1, 2]] and first.predicted.tolist() == [[3, 0]] and first.not_annotated == (3,)
    assert (
        second.labels.tolist() == [[1, 3]] and second.not_annotated == ()
    )  # as many labels as its later patch: the first


def test_later_rounds_show_the_same_patches_and_look_at_no_other():
    poor, rich = (batch([labels], [[[0, 0]]], annotated=[ALL]) for labels in ([[0, 1]], [[1, 2]]))
    found = Examples(LABELS, ("organ",))
    for patch in (poor, rich):
        found.add(patch, {"organ": torch.zeros(1, 1, 2, dtype=torch.long)})
    assert [example.predicted.tolist() for example in found.best()] == [[[0, 0]]]
    for patch in (replace(poor, labels={}), rich):
        found.add(patch, {"organ": torch.tensor([[[1, 1]]])})
    [example] = found.best()
    assert example.labels.tolist() == [[1, 2]] and example.predicted.tolist() == [[1, 1]]


def test_what_lies_under_a_lesion_is_not_annotated_of_the_organs():
    found = Examples(LABELS, ("organ",))
    found.add(batch([[[1, HIDDEN]]], [[[0, 1]]], annotated=[ALL]), {"organ": torch.ones(1, 1, 2, dtype=torch.long)})
    [example] = found.best()
    assert example.labels.tolist() == [[1, HIDDEN]]


def test_of_a_block_the_slice_with_the_most_labels_is_shown_of_neighbours_the_middle_one():
    organ, cancer = [[[[0, 0]], [[1, 2]], [[1, 1]]]], [[[[0, 0]], [[0, 0]], [[0, 1]]]]
    image = torch.arange(6).float().view(1, 1, 3, 1, 2)
    predicted = {group: torch.zeros(1, 3, 1, 2, dtype=torch.long) for group in LABELS.groups}
    found = Examples(LABELS, ("organ", "cancer"))
    found.add(batch(organ, cancer, annotated=[ALL], image=image), predicted)
    assert found.best()[0].image.tolist() == [[2, 3]]

    slices = Examples(LABELS, ("organ", "cancer"))
    image = torch.arange(6).float().view(1, 3, 1, 2)
    slices.add(
        batch(organ[0][:1], cancer[0][:1], annotated=[ALL], image=image), {g: p[:, 0] for g, p in predicted.items()}
    )
    assert slices.best()[0].image.tolist() == [[2, 3]]
