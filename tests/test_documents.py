"""What README.md and docs/ tell a reader to type can be typed, and where they send one there is something."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from flarenet.cli import shell
from flarenet.data.dataset_file import read_dataset
from flarenet.planning.plan_file import load_plan, override

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBERS = {"N", "K", "S"}
"""Words of the documents that stand for a number."""
GOLDEN = ROOT / "tests" / "golden"


def commands(document):
    """The lines that begin with a command of flarenet, as words: those that may be left out are there, none that stands
    for further ones."""
    text = re.sub(r"\\\n\s*", "", document.read_text())
    for line in re.findall(r"^ *(flarenet_\w+ .*)$", text, re.MULTILINE):
        line = re.sub(r"\[(-[^]]*)\]", r"\1", line)
        yield ["1" if word in NUMBERS else word for word in shlex.split(line, comments=True) if word != "..."]


LINES = [(document.name, line) for document in DOCUMENTS for line in commands(document)]


@pytest.mark.parametrize("document, line", LINES, ids=[f"{name}: {' '.join(line)[:60]}" for name, line in LINES])
def test_a_command_can_be_typed_and_what_it_sets_is_in_a_plan(document, line, monkeypatch):
    parsed = []
    command, *words = line
    module = importlib.import_module(f"flarenet.cli.{command.removeprefix('flarenet_')}")

    def run(parser, work, argv, **_):
        parsed.append(parser.parse_args(argv))
        return 0

    for place in {module, shell}:
        if hasattr(place, "run"):
            monkeypatch.setattr(place, "run", run)
    assert module.main(words) == 0
    [arguments] = parsed
    mini = getattr(arguments, "dataset", None) == "FLAREmini"
    plan = load_plan(GOLDEN / f"plan_{'flaremini' if mini else 'flare23'}_auto.json")
    override(plan, getattr(arguments, "changes", []), trained=command == "flarenet_predict")


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
