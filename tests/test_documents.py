"""What README.md and docs/ tell a reader to type can be typed, and where they send one there is something."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from flarenet.cli import shell
from flarenet.data.dataset_file import read_dataset
from flarenet.planning.plan_file import load_plan, override
from flarenet.schema import save
from flarenet.trainers import TRAINERS
from flarenet.trainers.planner import with_trainer
from flarenet.workspace import Workspace
from tests.planning import facts

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBERS = {"N", "K", "S"}
"""Words of the documents that stand for a number."""
GOLDEN = ROOT / "tests" / "golden"


def commands(document):
    """The lines that begin with a command of flarenet, as words: those that may be left out are there, none that stands
    for further ones."""
    text = re.sub(r"\\\n\s*", "", document.read_text())
    return [words_of(line) for line in re.findall(r"^ *(flarenet_\w+ .*)$", text, re.MULTILINE)]


def mentions(document):
    """The commands within sentences and tables, as `commands` gives them; they need not be whole."""
    return [words_of(span) for span in re.findall(r"`(flarenet_\w+ [^`]+)`", document.read_text())]


def words_of(line):
    line = re.sub(r"\[(-[^]]*)\]", r"\1", line)
    return ["1" if word in NUMBERS else word for word in shlex.split(line, comments=True) if word != "..."]


def parsed(line, monkeypatch, prepare=lambda parser: None):
    """The arguments of a command, which is not run; `prepare` is called with its parser."""
    found = []
    command, *words = line
    module = importlib.import_module(f"flarenet.cli.{command.removeprefix('flarenet_')}")

    def run(parser, work, argv, **_):
        prepare(parser)
        found.append(parser.parse_args(argv))
        return 0

    for place in {module, shell}:
        if hasattr(place, "run"):
            monkeypatch.setattr(place, "run", run)
    assert module.main(words) == 0
    return found[0]


def require_nothing(parser):
    for action in parser._actions:
        action.required = False
        for inner in action.choices.values() if isinstance(action.choices, dict) else ():
            require_nothing(inner)


def cases(find):
    found = {f"{document.name}: {' '.join(line)}": line for document in DOCUMENTS for line in find(document)}
    return {"argvalues": found.values(), "ids": [name[:80] for name in found]}


@pytest.mark.parametrize("line", **cases(commands))
def test_a_command_can_be_typed_and_what_it_sets_is_in_a_plan(line, monkeypatch, tmp_path):
    arguments = parsed(line, monkeypatch)
    mini, changes = getattr(arguments, "dataset", None) == "FLAREmini", getattr(arguments, "changes", [])
    plan = load_plan(GOLDEN / f"plan_{'flaremini' if mini else 'flare23'}_auto.json")
    if line[0] == "flarenet_train" and arguments.trainer in TRAINERS:  # it may be one that is planned by this command
        workspace = Workspace(tmp_path, "Set")
        workspace.prepared.mkdir(parents=True)
        save(facts.flare_mini() if mini else facts.flare23(), workspace.fingerprint)
        with_trainer(plan, TRAINERS[arguments.trainer], workspace, changes=changes)
    else:
        override(plan, changes, trained=line[0] == "flarenet_predict")


@pytest.mark.parametrize("line", **cases(mentions))
def test_what_is_mentioned_of_a_command_is_there(line, monkeypatch, capsys):
    """Its flags and the choices of their values. What it requires, and the value of its last flag, may be left out."""
    try:
        parsed(line, monkeypatch, prepare=require_nothing)
    except SystemExit as end:
        said = capsys.readouterr().err.strip()
        assert end.code == 0 or re.search(rf"argument \S*{re.escape(line[-1])}\S*: expected .*argument$", said), said


def anchors(document):
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_leads_somewhere(document):
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_data_set_that_is_shown_is_read(tmp_path):
    text = (ROOT / "docs" / "dataset-json.md").read_text()
    shown, *_ = re.findall(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "dataset.json").write_text(shown)
    dataset = read_dataset(tmp_path)
    assert {case.name: case.annotated for case in dataset.cases} == {"a": {1, 2}, "b": {1, 3}, "c": set()}
    assert dataset.labels.groups == {"organ": (1, 2), "cancer": (3,)}
