"""Decoders see the samples that ask something of their group; loss and gradients are those of all samples."""

import pytest
import torch

from flarenet.data.labels import HIDDEN
from flarenet.networks import build
from flarenet.planning.plan import NetworkSpec
from flarenet.training.batches import Batch
from flarenet.training.losses import segmentation_loss
from flarenet.training.objective import segmentation_objective

OUTPUTS = {"organ": 3, "cancer": 1}
GROUPS = tuple(OUTPUTS)
ORGANS, LIVER, TUMOR = (True,) * 4, (True, True, False, False), (True, True)
NOTHING = {"organ": (False,) * 4, "cancer": (False, False)}


def made(deep=0):
    torch.manual_seed(0)
    features = (4, 4, 8, 8, 8, 4)
    spec = NetworkSpec(kind="dual_decoder", dimensions=2, features=features, groups=GROUPS, deep_supervision=deep)
    return build(spec, OUTPUTS)


def batch_of(*patterns):
    """A sample for each (organ, cancer) pattern; what is not asked is hidden."""
    draw = torch.Generator().manual_seed(1)
    annotated = {group: torch.tensor([pattern[n] for pattern in patterns]) for n, group in enumerate(GROUPS)}
    labels = {}
    for group, count in OUTPUTS.items():
        drawn = torch.randint(0, 1 + count, (len(patterns), 32, 48), dtype=torch.uint8, generator=draw)
        labels[group] = drawn.where(annotated[group][:, :1, None], HIDDEN).to(torch.uint8)
    image = torch.rand(len(patterns), 1, 32, 48, generator=draw)
    return Batch(image, labels, annotated, tuple(f"c{n}" for n in range(len(patterns))))


def seen_by(network, group):
    """How many samples the decoder of a group gets, call by call."""
    counts = []
    network.decoders[group].head.register_forward_hook(lambda _, given, __: counts.append(len(given[0])))
    return counts


def gradients(loss, network):
    network.zero_grad()
    loss.total.backward()
    return {name: each.grad for name, each in network.named_parameters()}


PARTLY = [
    ((ORGANS, NOTHING["cancer"]), (LIVER, TUMOR), (ORGANS, NOTHING["cancer"]), (NOTHING["organ"], TUMOR)),
    ((ORGANS, NOTHING["cancer"]), (LIVER, NOTHING["cancer"])),
]


@pytest.mark.parametrize("deep", [0, 2])
@pytest.mark.parametrize(("patterns", "seen"), [(PARTLY[0], (3, 2)), (PARTLY[1], (2, 1))])
def test_loss_and_gradients_are_those_of_all_samples(patterns, seen, deep):
    network, batch = made(deep).train(), batch_of(*patterns)
    every = segmentation_loss(network(batch.image, GROUPS), batch.labels, batch.annotated, exclusion=0.5)
    wanted = gradients(every, network)
    counts = [seen_by(network, group) for group in GROUPS]
    loss = segmentation_objective(network, batch, GROUPS, exclusion=0.5)
    assert counts == [[seen[0]], [seen[1]]]
    torch.testing.assert_close(loss.total, every.total)
    found = gradients(loss, network)
    assert all(gradient is not None for gradient in found.values())  # also of a group that no sample asks for
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_where_every_sample_asks_nothing_is_copied_and_the_bits_are_the_same():
    network, batch = made().train(), batch_of((ORGANS, TUMOR), (LIVER, TUMOR))
    every = segmentation_loss(network(batch.image, GROUPS), batch.labels, batch.annotated)
    assert segmentation_objective(network, batch, GROUPS).total.equal(every.total)


def test_who_is_judged_answers_all_samples():
    network, batch = made().eval(), batch_of(*PARTLY[0])
    loss = segmentation_objective(network, batch, GROUPS)
    assert {group: len(logits) for group, logits in loss.logits.items()} == {"organ": 4, "cancer": 4}


def test_one_group_alone():
    network, batch = made().train(), batch_of(*PARTLY[0])
    other = seen_by(network, "cancer")
    loss = segmentation_objective(network, batch, ("organ",))
    assert len(loss.logits["organ"]) == 3 and not other
