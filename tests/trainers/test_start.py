"""What learns in a step."""

import pytest

from flarenet.errors import RunError
from flarenet.networks import build
from flarenet.planning.plan import NetworkSpec
from flarenet.trainers.start import freeze

POSITIONS = "encoder.patch_embedding.position_embeddings"  # fixed, of sines and cosines


@pytest.fixture
def network():
    spec = NetworkSpec(kind="unetr", dimensions=3, features=(12, 24, 4, 2, 4), groups=("organ",))
    return build(spec, {"organ": 3}, (32, 32, 32))


@pytest.mark.parametrize("trained", [(), ("encoder", "decoder", "heads"), ("decoder", "heads"), ("encoder",)])
def test_the_named_parts_learn_but_for_what_is_fixed(network, trained):
    parts = trained or ("encoder", "decoder", "heads")
    names = {name for name, _ in network.named_parameters() if name.split(".")[0] in parts} - {POSITIONS}
    freeze(network, trained)
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == names
    assert POSITIONS in dict(network.named_parameters()) and len(names) > 1


def test_a_part_that_is_not_there_is_named_with_those_that_are(network):
    with pytest.raises(RunError, match=r"(?s)submodule 'decodr'.*decoder") as caught:
        freeze(network, ("decodr",))
    assert "heads" in caught.value.expected
