"""A step around its loop, without the loop: in which order things happen."""

from types import SimpleNamespace

import torch

from flarenet.trainers import Trainer3DOrgan, trainer
from flarenet.workspace import Workspace


def test_states_are_removed_when_every_process_has_read_them(tmp_path, monkeypatch):
    """Also of a run that was ended between its last state and its model, and so has nothing left to train."""
    done = []

    def noting(what, answer=None):
        return lambda *_: done.append(what) or answer

    monkeypatch.setattr(trainer, "fit", noting("fit"))
    monkeypatch.setattr(trainer, "wait_for_all", noting("wait"))
    checkpoints = SimpleNamespace(load=noting("load", answer=True), remove=noting("remove"))
    one = object.__new__(Trainer3DOrgan)
    one.__dict__ |= {
        "_plan": SimpleNamespace(step=lambda *_: None),
        "_workspace": Workspace(tmp_path, "P"),
        "_fold": 0,
        "_device": torch.device("cpu"),
        "_loaders": 0,
        "_state": lambda step: SimpleNamespace(epoch=2, index=0),
        "_course": lambda *_: SimpleNamespace(title="a run", checkpoints=checkpoints),
        "_save": noting("save"),
        "_say": lambda line: None,
    }
    one.train(1)
    assert done == ["load", "wait", "fit", "save", "remove", "wait"]
