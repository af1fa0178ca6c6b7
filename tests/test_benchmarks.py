"""Every benchmark can be imported, and tells by --help what it does."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
NEEDS_NNUNET = ("nnunet_loader", "nnunet_predict", "nnunet_train")
"""Run by the Python of an nnU-Net installation, by the benchmarks beside them."""
MODULES = sorted(
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if path.stem not in NEEDS_NNUNET
)


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported_and_tells_what_it_does(name, monkeypatch, capsys):
    module = importlib.import_module(name)
    if not hasattr(module, "main"):  # what several of them share
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert module.__doc__.split("\n")[0] in capsys.readouterr().out
