"""flarenet_train: trains the steps of a trainer from a plan."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from .process import keep_freed_memory, keep_to_quota
from .shell import add_changes, add_device, add_epochs, add_fold, add_planned, index, new_parser, planned, run

if TYPE_CHECKING:
    from ..planning.plan import Plan
    from ..trainers.trainer import Trainer
    from ..workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(
        "flarenet_train", "Train a model from a plan. Finished steps are skipped, interrupted ones resume."
    )
    parser.add_argument(
        "trainer",
        nargs="?",
        help="3DOrgan, 3DCancer, MAE, DualDecoder2D, Joint, or my.module:MyTrainer (default: those that flarenet_plan "
        "advises, one after the other)",
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="one step, counted from 1 (default: all of them in order)"
    )
    parser.add_argument(
        "--finish", action="store_true", help="stop training --step and turn its last saved state into a model"
    )
    add_fold(parser)
    add_epochs(parser)
    add_planned(parser)
    add_changes(parser, "change values of the plan for this run")
    add_device(parser)
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16", "fp16"), help="numbers to compute in (default: the plan's)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="let torch compile the network: slow to start, may be faster afterwards"
    )
    parser.add_argument(
        "--workers",
        type=index,
        metavar="N",
        help="processes that make batches (default: by device and cores); the result is the same",
    )
    parser.add_argument(
        "--track", choices=("tensorboard",), help="also write the curves for TensorBoard (pip extra: track)"
    )
    return run(parser, _train, argv)


def _train(arguments: Namespace) -> None:
    keep_to_quota()
    from ..planning.planned import load_planned
    from ..trainers.own import find_trainer
    from ..training.distributed import joined, own_device
    from ..training.signals import save_requests_harmless

    named = find_trainer(arguments.trainer) if arguments.trainer else None
    workspace = planned(arguments)
    plan = load_planned(workspace)
    with save_requests_harmless(), joined(own_device(arguments.device)):  # once for all trainers
        for trainer in [named] if named else _advised(plan, workspace, arguments):
            _train_one(trainer, plan, workspace, arguments)


def _advised(plan: Plan, workspace: Workspace, arguments: Namespace) -> list[type[Trainer]]:
    from ..trainers.own import find_trainer
    from ..trainers.planner import advised

    names = advised(plan)
    for flag, value in (("--step", arguments.step), ("--epochs", arguments.epochs), ("--finish", arguments.finish)):
        if value and len(names) != 1:
            raise UsageError(flag, found="no trainer", expected="the trainer it is for, as in flarenet_train Joint")
    if names:
        return [find_trainer(name) for name in names]
    found = f"{workspace.plan}, where no trainer answers a label"
    raise UsageError("flarenet_train", found=found, expected=f"the name of one: {', '.join(plan.trainers)}")


def _train_one(chosen: type[Trainer], plan: Plan, workspace: Workspace, arguments: Namespace) -> None:
    from ..planning.rules.epochs import with_epochs
    from ..trainers.planner import with_trainer
    from ..training.track import TensorBoard

    plan = with_trainer(plan, chosen, workspace, changes=arguments.changes)
    if arguments.epochs is not None:
        plan = with_epochs(plan, chosen.name, arguments.epochs)
    if len(plan.configuration_of(chosen.name).patch) == 2:
        keep_freed_memory()
    trainer = chosen(
        plan,
        workspace,
        fold=arguments.fold,
        device=arguments.device,
        precision=arguments.precision,
        compiled=arguments.compile,
        workers=arguments.workers,
        callbacks=[TensorBoard(plan.labels)] if arguments.track else (),
    )
    trainer.train(arguments.step, finish=arguments.finish)


if __name__ == "__main__":  # torchrun starts it this way
    sys.exit(main())
