"""Devices, precisions and engines by name; every engine answers as torch does in float32."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from flarenet.errors import UsageError
from flarenet.inference.engines.engine import (
    ENGINES,
    TorchEngine,
    autocast,
    is_recorded,
    open_engine,
    pick_device,
    pick_precision,
)
from flarenet.inference.engines.openvino_engine import find_openvino
from flarenet.networks import NETWORKS, build
from flarenet.networks.unet import UNet
from flarenet.planning.plan import NetworkSpec

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = {"organ": 3, "train": 1}  # "train" is a name that torch does not allow a part of a module to have
U_SHAPED = ("unet", "dual_decoder", "residual_unet", "residual_dual_decoder")
SWIN = ("swin_unetr", (32, 64, 32))
MADE = [(kind, patch) for kind in U_SHAPED for patch in ((32, 48), (45, 33), (46, 35), (16, 32, 20))]
MADE += [("unetr", (32, 32, 16)), SWIN]


def spec_of(kind, patch, channels=1):
    features = {"unetr": (24, 48, 12, 2, 4), "swin_unetr": (12,)}.get(kind, (4, 6, 8, 4))
    blocks = (1, 2, 1) if kind.startswith("residual") else ()
    return NetworkSpec(
        kind=kind,
        dimensions=len(patch),
        features=features,
        blocks=blocks,
        groups=tuple(OUTPUTS),
        input_channels=channels,
    )


def network_of(kind, patch, channels=1):
    torch.manual_seed(0)
    network = build(spec_of(kind, patch, channels), OUTPUTS, patch).eval()
    for parameter in network.parameters():  # fresh norms have scale 1 and shift 0, which would hide a mistake
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def find_or_skip():
    try:
        find_openvino()
    except UsageError as absent:
        pytest.skip(str(absent))


def opened(engine, network, patch, channels=1, precision="fp32"):
    if engine == "openvino":
        find_or_skip()
    return open_engine(network, channels=channels, patch=patch, engine=engine, device="cpu", precision=precision)


def test_every_segmenting_network_is_tried():
    assert {kind for kind, _ in MADE} == set(NETWORKS) - {"mae_vit", "mae_swin"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind, patch", MADE)
def test_logits_are_those_of_the_network(kind, patch, engine):
    if (kind, engine) == ("swin_unetr", "openvino"):
        pytest.skip("OpenVINO cannot convert it, see docs/engines.md")
    network, windows = network_of(kind, patch), torch.rand(3, 1, *patch)
    with torch.inference_mode():
        expected = {group: value.clone() for group, value in network(windows).items()}
    answers = opened(engine, network, patch)(windows)
    assert list(answers) == list(expected)
    for group, logits in answers.items():
        assert logits.dtype == torch.float32 and logits.is_contiguous() and logits.device.type == "cpu"
        torch.testing.assert_close(logits, expected[group], rtol=1e-3, atol=1e-3 * float(expected[group].std()))


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_repeat_bit_for_bit_and_stay_as_they_are(engine):
    patch = (32, 32)
    network, windows = network_of("dual_decoder", patch, channels=3), torch.rand(4, 3, *patch)
    answer = opened(engine, network, patch, channels=3)
    first = answer(windows)
    kept = {group: value.clone() for group, value in first.items()}
    answer(torch.rand(4, 3, *patch))
    again, alone = opened(engine, network, patch, channels=3)(windows), answer(windows[2:3])
    for group, value in kept.items():
        assert torch.equal(first[group], value) and torch.equal(again[group], value)
        torch.testing.assert_close(alone[group], value[2:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_that_share_an_engine_get_the_answers_to_their_own_windows(engine):
    patch = (32, 32)
    answer = opened(engine, network_of("unet", patch), patch)
    batches = [torch.rand(3, 1, *patch) for _ in range(4)]
    alone = [answer(windows)["organ"] for windows in batches]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(answer, 5 * batches))
    assert all(torch.equal(found["organ"], expected) for found, expected in zip(together, 5 * alone))


@pytest.mark.parametrize("engine", ENGINES)
def test_half_the_digits_answer_nearly_the_same(engine):
    patch = (32, 32)
    network, windows = network_of("unet", patch), torch.rand(2, 1, *patch)
    exact, rough = (opened(engine, network, patch, precision=word)(windows)["organ"] for word in ("fp32", "bf16"))
    assert float((rough - exact).abs().mean()) < 0.1 * float(exact.std())
    if engine == "torch":  # OpenVINO computes in bf16 only where the processor does
        assert not torch.equal(rough, exact)


def test_an_engine_says_its_name():
    network = network_of("unet", (32, 32))
    assert opened("torch", network, (32, 32)).name == "torch fp32"
    assert opened("torch", network, (32, 32), precision="bf16").name == "torch bf16"
    assert opened("openvino", network, (32, 32)).name == "openvino fp32"


def test_an_unknown_engine_is_refused():
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        opened("open-vino", network_of("unet", (32, 32)), (32, 32))


def test_openvino_is_for_the_cpu_and_has_no_fp16():
    network = network_of("unet", (32, 32))
    with pytest.raises(UsageError, match="engine 'openvino'\n.*cuda"):
        open_engine(network, channels=1, patch=(32, 32), engine="openvino", device="cuda")
    with pytest.raises(UsageError, match="auto, fp32, bf16"):
        opened("openvino", network, (32, 32), precision="fp16")
    assert opened("auto", network, (32, 32), precision="fp16").name == "torch fp16"


def test_an_engine_that_warms_up_in_a_thread_answers_the_same_bits():
    windows = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    engines = [
        TorchEngine(network_of("dual_decoder", (32, 32)), dimensions=2, first=first) for first in (None, (2, 1, 32, 32))
    ]
    for batch in (windows, windows[:1], windows):
        plain, warm = (engine(batch) for engine in engines)
        assert plain.keys() == warm.keys() and all(torch.equal(plain[group], warm[group]) for group in plain)


def test_what_goes_wrong_while_it_warms_up_is_raised_by_every_call():
    engine = TorchEngine(network_of("unet", (32, 32)), dimensions=2, first=(2, 3, 32, 32))  # it has one channel
    for _ in range(2):
        with pytest.raises(RuntimeError, match="channels"):
            engine(torch.zeros(1, 1, 32, 32))


class Unusual(torch.nn.Module):
    """Segments by something that OpenVINO does not know."""

    groups = ("organ",)

    def forward(self, x):
        return {"organ": x * torch.linalg.svdvals(x)[..., :1, None]}


def test_a_network_that_openvino_cannot_convert_is_refused_by_name_and_left_to_torch_by_auto():
    assert opened("auto", Unusual(), (8, 8)).name == "torch fp32"
    with pytest.raises(UsageError, match="cannot convert this Unusual"):
        opened("openvino", Unusual(), (8, 8))


def test_auto_takes_openvino_where_it_is_installed(monkeypatch):
    network = network_of("unet", (32, 32))
    find_or_skip()
    assert opened("auto", network, (32, 32)).name == "openvino fp32"
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    assert opened("auto", network, (32, 32)).name == "torch fp32"
    with pytest.raises(UsageError, match=r"pip install 'flarenet\[openvino\]'"):
        open_engine(network, channels=1, patch=(32, 32), engine="openvino")


class Derived(UNet):
    """A network of one's own that builds on one of flarenet's."""


@pytest.mark.parametrize("patch, recorded", [((32, 32), True), ((16, 32, 20), False)])
def test_a_gpu_records_networks_of_slices_and_none_of_one_s_own(patch, recorded):
    network = network_of("unet", patch)
    assert is_recorded(network, (2, 1, *patch)) == recorded
    network.__class__ = Derived
    assert not is_recorded(network, (2, 1, *patch))


def test_a_network_of_one_s_own_stays_with_torch_whatever_it_derives_from():
    find_or_skip()
    network = network_of("unet", (32, 32))
    network.__class__ = Derived
    assert opened("auto", network, (32, 32)).name == "torch fp32"


def test_opening_openvino_costs_less_than_a_window():
    find_or_skip()
    network = network_of("dual_decoder", (96, 94))
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    opened("openvino", network, (96, 94))
    # three resolutions: two voxels an axis at the third, and 94, 47, 23 is as 10, 5, 2
    assert seen == [(1, 1, 8, 10)]


def test_opening_openvino_leaves_what_learns_as_it_was():
    network = network_of("unet", (32, 32))
    first, *others = network.parameters()
    first.requires_grad_(False)
    opened("openvino", network, (32, 32))
    assert not first.requires_grad and all(other.requires_grad for other in others)


def test_nothing_is_told_to_the_makers_of_openvino():
    find_or_skip()
    script = (
        "from flarenet.inference.engines.openvino_engine import find_openvino\n"
        "find_openvino()\n"
        "from openvino.tools.ovc import convert_impl, telemetry\n"
        "print(type(telemetry).__module__, convert_impl.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == 2 * ["openvino.tools.ovc.telemetry_stub"]


SIGNAL_AFTER_ENGINE = """
import signal, sys, threading
import torch
from flarenet.inference.engines.engine import open_engine
from tests.inference.test_engines import network_of

def run(engines):
    engines.pop()(torch.rand(1, 1, 32, 32))

came = []
signal.signal(signal.SIGINT, lambda number, _: came.append(number))
for engine in sys.argv[1:]:
    network = network_of("dual_decoder", (32, 32))
    engines = [open_engine(network, channels=1, patch=(32, 32), engine=engine, device="cpu", precision="fp32")]
    thread = threading.Thread(target=run, args=(engines,))
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGINT)
assert came == [signal.SIGINT] * len(sys.argv[1:])
"""


def test_a_signal_comes_through_after_an_engine_ended_in_another_thread():
    find_or_skip()
    line = [sys.executable, "-c", SIGNAL_AFTER_ENGINE, *ENGINES]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_auto_is_a_gpu_where_there_is_one():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="CUDA devices"):
        pick_device("cuda:99")
    with pytest.raises(UsageError, match="did you mean 'cpu'"):
        pick_device("cpuu")


def test_a_gpu_has_its_number_however_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert [str(pick_device(name)) for name in ("auto", "cuda", "cuda:1")] == ["cuda:0", "cuda:0", "cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert str(pick_device("cuda")) == "cuda:1"


def test_the_gpu_that_is_used_is_asked_for_bfloat16_not_the_current_one(monkeypatch):
    """Of two the second one computes in it."""
    current = [0]

    @contextmanager
    def made_current(device):
        before, current[0] = current[0], device.index
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[0] == 1)
    found = [pick_precision(torch.device("cuda", number), "auto") for number in (0, 1)]
    assert found == [torch.float32, torch.bfloat16] and current == [0]


def test_autocast_computes_in_the_type_asked_for():
    cpu = torch.device("cpu")
    layer, x = torch.nn.Linear(2, 2), torch.rand(1, 2)
    for precision, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16), ("auto", pick_precision(cpu, "auto"))]:
        with autocast(cpu, precision):
            assert layer(x).dtype == dtype
    with pytest.raises(UsageError, match="unknown precision"):
        autocast(cpu, "fp8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("patch", [(64, 48), (16, 32, 32)])
def test_engines_opened_at_once_on_a_card_answer_as_unrecorded_ones(patch):
    windows = torch.rand(4, 1, *patch, device="cuda")
    networks = [network_of(kind, patch).cuda() for kind in ("unet", "dual_decoder")]
    expected = [TorchEngine(network, dimensions=len(patch), device="cuda")(windows) for network in networks]
    first = (4, 1, *patch)
    engines = [TorchEngine(network, dimensions=len(patch), device="cuda", first=first) for network in networks]
    for engine, answers in zip(engines, expected):
        found, part = engine(windows), engine(windows[:3])
        assert (engine._recorded is not None) == (len(patch) == 2)
        for group, logits in answers.items():
            torch.testing.assert_close(found[group], logits, rtol=1e-3, atol=1e-3)
            assert torch.equal(part[group], found[group][:3])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
def test_every_card_of_a_process_answers():
    windows, network = torch.rand(2, 1, 64, 48), network_of("unet", (64, 48))
    expected = TorchEngine(network, dimensions=2)(windows)["organ"]
    for card in ("cuda:0", "cuda:1"):
        engine = TorchEngine(network_of("unet", (64, 48)), dimensions=2, device=card, first=(2, 1, 64, 48))
        found = engine(windows)["organ"]
        assert engine._recorded is not None and found.device == torch.device(card)
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=1e-2 * float(expected.std()))
