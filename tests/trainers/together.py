"""What two processes do that train a step together; tests/training/together.py starts them."""

import signal

from flarenet.planning.plan_file import load_plan
from flarenet.trainers import Trainer3DOrgan
from flarenet.training.distributed import rank
from flarenet.workspace import Workspace


class Interrupted(Trainer3DOrgan):
    """The second process gets Ctrl-C in its third batch, the first of the second epoch."""

    seen = 0

    def objective(self, step, network, batch):
        self.seen += network.training
        if network.training and self.seen == 3 and rank() == 1:
            signal.raise_signal(signal.SIGINT)
        return super().objective(step, network, batch)


def train_and_finish(own, shared):
    """Step 1 of the set below `own` to its end; the same below `shared` until it is broken off, then its model."""
    for root, trainer in ((own, Trainer3DOrgan), (shared, Interrupted)):
        workspace = Workspace(root, "P")
        plan = load_plan(workspace.plan)
        try:
            trainer(plan, workspace, device="cpu").train(1)
        except KeyboardInterrupt:
            Trainer3DOrgan(plan, workspace, device="cpu").train(1, finish=True)
