"""flarenet_train: trains the steps of one trainer from a plan."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from .heap import keep_freed_memory
from .shell import add_changes, add_device, add_epochs, add_fold, add_planned, parser, planned, run


def main(argv: Sequence[str] | None = None) -> int:
    words = parser("flarenet_train", "Train a model from a plan. Finished steps are skipped, broken ones go on.")
    words.add_argument("trainer", help="3DOrgan, 3DCancer, MAE, DualDecoder2D, Joint, or my.module:MyTrainer")
    words.add_argument("--step", type=int, help="one step, counted from 1; all of them in order where left out")
    words.add_argument(
        "--finish", action="store_true", help="train no more: make the model of what --step had when it was broken off"
    )
    add_fold(words)
    add_epochs(words)
    add_planned(words)
    add_changes(words, "change values of the plan for this run")
    add_device(words)
    words.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="else as the plan says")
    words.add_argument(
        "--compile", action="store_true", help="let torch compile the network: a slow start, then may be faster: try it"
    )
    words.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that make batches beside the training (default: by device and cores); the result is the same",
    )
    words.add_argument("--track", choices=("tensorboard",), help="write the curves for it too (pip extra: track)")
    return run(words, _train, argv)


def _train(arguments: Namespace) -> None:
    from ..planning.epochs import with_epochs
    from ..planning.plan_file import override
    from ..planning.planned import load_planned
    from ..trainers.own import find_trainer
    from ..trainers.planner import with_trainer
    from ..training.track import TensorBoard

    chosen = find_trainer(arguments.trainer)
    workspace = planned(arguments)
    plan = override(with_trainer(load_planned(workspace), chosen, workspace), arguments.changes)
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


if __name__ == "__main__":  # torchrun starts it so
    raise SystemExit(main())
