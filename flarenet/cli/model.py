"""flarenet_model: lists, inspects and shares finished models."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CasesFailed, FlarenetError, UsageError
from ..workspace import find_root, models_folder, root_flag
from . import shell

if TYPE_CHECKING:
    from ..inference.models.about import About
    from ..planning.plan import Plan

_MB = 1 << 20
_LONGEST_LICENCE = _MB
_MODEL = "an installed model's name, or a model folder; a trainer's folder means all its finished folds"
_UNVERIFIED = "digests show that the file is intact, not who made it: compare the fingerprint with its authors'"


def main(argv: Sequence[str] | None = None) -> int:
    return shell.run(make_parser(), work, argv)


def make_parser() -> ArgumentParser:
    parser = shell.new_parser("flarenet_model", "List, inspect and share finished models.")
    shell.add_root(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    actions.add_parser("list", help="list what flarenet_predict -m accepts")

    one = actions.add_parser("info", help="show a model's labels, training cases, scores and licence")
    one.add_argument("model", metavar="MODEL", help=f"{_MODEL}; or a model file")

    _add_export(actions.add_parser("export", help="write a model file"))

    one = actions.add_parser("onnx", help="write network.onnx and processing.json for other programs (docs/onnx.md)")
    one.add_argument("model", metavar="MODEL", help=_MODEL)
    one.add_argument("folder", type=Path, metavar="OUT", help="a folder; with several folds it gets one for each")

    one = actions.add_parser("install", help="check a model file and put it into the root's models/")
    one.add_argument("file", type=Path, metavar="FILE.zip", help="a model file, as export writes it")
    one.add_argument("--name", help="install under this name (default: as it was exported)")

    one = actions.add_parser("remove", help="remove an installed model; runs are never removed")
    one.add_argument("name", metavar="NAME", help="the installed model's name, as list shows it")
    one.add_argument("--yes", action="store_true", help="do not ask")

    for one in actions.choices.values():  # these flags may stand on either side of the action
        shell.add_root(one, default=SUPPRESS)
        shell.add_debug(one, default=SUPPRESS)
    return parser


def _add_export(one: ArgumentParser) -> None:
    one.add_argument("model", metavar="MODEL", help=_MODEL)
    one.add_argument("file", type=Path, metavar="FILE.zip", help="the new file; its name becomes the model's")
    one.add_argument(
        "--licence",
        "--license",
        metavar="TEXT|FILE",
        help="what others may do with it (default: as it was installed, else a note that none was stated)",
    )
    one.add_argument(
        "--without-cases", action="store_true", help="leave out the names of the cases that it learned from"
    )


def work(arguments: Namespace) -> None:
    actions = {"list": _list, "info": _info, "export": _export, "onnx": _onnx, "install": _install, "remove": _remove}
    actions[arguments.action](arguments)


def _list(arguments: Namespace) -> None:
    """List the models. Raises CasesFailed, after all others are listed, where a model folder is damaged."""
    from ..inference.models.found import finished_models, installed_models, models_in, segments

    root = find_root(arguments.root)
    named = {folder.name: models_in(folder) for folder in installed_models(root)}
    named |= {str(folder.relative_to(root)): [folder] for folder in finished_models(root) if segments(folder)}
    rows, failed = [("model", "trainer", "step", "folds", "data set", "MB")], list[str]()
    for name, models in named.items():
        try:
            rows.append(_row(name, models))
        except (FlarenetError, OSError) as problem:
            failed.append(_plain(name))
            print(f"{failed[-1]}: {problem}", file=sys.stderr)
    if not named:
        print(f"no finished model that segments in {root}", file=sys.stderr)
        return
    widths = [max(len(_plain(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(_plain(word).ljust(width) for word, width in zip(row, widths)).rstrip())
    if failed:
        found = ", ".join(failed)
        raise CasesFailed(f"{len(failed)} of {len(named)} models", found=found, expected="undamaged model folders")


def _row(name: str, models: Sequence[Path]) -> tuple[str, str, str, str, str, str]:
    """The row of `list` for the models that a name stands for. Raises as describe does."""
    from ..inference.models.about import describe, read_about

    for model in models:
        describe(model)
    about = read_about(models[0])
    size = sum(path.stat().st_size for model in models for path in _parts(model)) / _MB
    return name, about.trainer, str(about.step), str(len(models)), about.dataset, f"{size:.1f}"


def _info(arguments: Namespace) -> None:
    from ..inference.models.found import find_models, models_in
    from ..inference.models.model_file import opened

    file = Path(arguments.model)
    if file.is_file():
        with opened(file) as folder:
            _show({f"{file}: {model.relative_to(folder)}": model for model in models_in(folder)})
    else:
        _show({str(model): model for model in find_models(arguments.model, arguments.root)})


def _export(arguments: Namespace) -> None:
    from ..inference.models.found import find_folder, models_in, remarks_on
    from ..inference.models.model_file import export_models

    folder = find_folder(arguments.model, arguments.root)
    for said in remarks_on([folder]):
        print(f"warning: {said}", file=sys.stderr)
    models = models_in(folder)
    licence = None if arguments.licence is None else _licence(arguments.licence)
    fingerprint = export_models(models, arguments.file, licence=licence, with_cases=not arguments.without_cases)
    print(f"{arguments.file}: {len(models)} model{'s' * (len(models) > 1)}, fingerprint {fingerprint}")


def _onnx(arguments: Namespace) -> None:
    from ..inference.models.found import find_models
    from ..inference.models.model import load_model
    from ..inference.models.onnx_file import export_onnx

    models = find_models(arguments.model, arguments.root)
    for folder in models:
        # a fold is TRAINER/fold_K/step_N
        out = arguments.folder if len(models) == 1 else arguments.folder / folder.parent.name
        export_onnx(load_model(folder), out)
        print(f"{folder} -> {out}")


def _install(arguments: Namespace) -> None:
    from ..inference.models.model_file import install

    root = find_root(arguments.root)
    done = install(arguments.file, root, arguments.name)
    said = "is installed already" if done.already else "installed"
    print(f"{done.folder.name}: {said} in {done.folder}, fingerprint {done.fingerprint}")
    if not done.already:
        print(_UNVERIFIED, file=sys.stderr)
        print(f"flarenet_predict -m {done.folder.name} -i IN -o OUT{root_flag(root)}")


def _remove(arguments: Namespace) -> None:
    from ..inference.models.model_file import find_installed, remove

    root = find_root(arguments.root)
    folder = find_installed(root, arguments.name)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UsageError("removing a model", found="nobody to ask", expected="--yes")
        print(f"remove {folder}? type its name: ", end="", flush=True)
        if sys.stdin.readline().strip() != arguments.name:
            raise UsageError(f"model {arguments.name}", found="another answer", expected="its name; it is still there")
    remove(root, arguments.name)
    print(f"{arguments.name}: removed from {models_folder(root)}")


def _licence(words: str) -> str:
    """`words` itself or, if it names a file, the file's text up to _LONGEST_LICENCE characters."""
    try:
        is_file = Path(words).is_file()
    except OSError:  # too long for a file name
        is_file = False
    if not is_file:
        return words.rstrip() + "\n"
    content = Path(words).read_bytes()
    try:
        return content.decode()[:_LONGEST_LICENCE]
    except UnicodeDecodeError as problem:
        raise UsageError(f"--licence {words}", found=problem, expected="text in UTF-8") from problem


def _show(models: Mapping[str, Path]) -> None:
    """Print the facts of models, {name to show: model folder}, and the licence of a model file. Raises UnsafeError
    where a folder is not as it was written."""
    from ..inference.models.about import check_weights, describe, read_about
    from ..inference.models.model_file import home_of

    for name, model in models.items():
        described = describe(model)
        check_weights(described)
        facts = [("model", name), *_facts(model, read_about(model), described.plan)]
        width = 2 + max(len(_plain(key)) for key, _ in facts)
        print(*(f"{_plain(key) + ':':{width}}{_plain(said)}" for key, said in facts), "", sep="\n")
    if folder := home_of(next(iter(models.values()))):
        _show_file(folder)


def _facts(model: Path, about: About, plan: Plan) -> Iterator[tuple[str, str]]:
    from ..schema import leaves
    from ..whole import sha256_of

    part = plan.trainer(about.trainer)
    yield "trainer", f"{about.trainer}, step {about.step} of {len(part.steps)}, by flarenet {about.flarenet}"
    yield "network", f"{part.network.kind}, {part.network.dimensions}D, patch {_patch(plan, about)}"
    yield "data set", about.dataset
    for group in part.network.groups:
        values = plan.labels.groups[group]
        yield group, ", ".join(f"{value} {plan.labels.names[value]}" for value in values)
    patterns = plan.step(about.trainer, about.step).subset.patterns
    yield "cohorts", "; ".join(_pattern(pattern, plan) for pattern in patterns)
    yield "cases", "not stated" if about.seen is None else f"{len(about.seen)}: {', '.join(about.seen)}"
    for name, value in leaves(about.summary):
        yield name, str(value)
    for path in _parts(model):
        sha256 = about.sha256.get(path.name) or sha256_of(path)  # about.json cannot state its own
        yield path.name, f"{path.stat().st_size} bytes, sha256 {sha256}"


def _show_file(folder: Path) -> None:
    from ..inference.models.model_file import MANIFEST, read_licence
    from ..whole import sha256_of

    print(f"fingerprint: {sha256_of(folder / MANIFEST)}\nlicence:")
    for line in read_licence(folder).splitlines():
        print(_plain(line))


def _patch(plan: Plan, about: About) -> str:
    return " x ".join(map(str, plan.configuration_of(about.trainer).patch))


def _pattern(pattern: Iterable[int], plan: Plan) -> str:
    return " + ".join(plan.labels.names_of(pattern)) or "unlabelled"


def _parts(model: Path) -> list[Path]:
    from ..inference.models.about import FILES

    return [model / name for name in FILES]


def _plain(text: str) -> str:
    """`text` with "?" for characters that could control a terminal: it may come from others."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


if __name__ == "__main__":
    sys.exit(main())
