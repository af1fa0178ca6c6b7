"""The floors of the house, and what is never done in it. The table below is the rule; the tests read the sources."""

import argparse
import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flarenet"

# A room imports only from floors below its own. Rooms of one floor are neighbours and do not know each other.
FLOORS = (
    {"errors"},
    {"whole", "lock", "terminal", "silence"},
    {"schema", "volume", "workspace"},
    {"data"},
    {"planning", "evaluation", "phantom"},
    {"preparation", "networks"},
    {"inference"},
    {"training", "pseudo"},
    {"trainers"},
    {"choice", "reporting"},
    {"cli"},
)
TORCH_FREE = set.union(*FLOORS[:5])
SLOW_TO_IMPORT = {"torch", "monai", "numpy", "scipy", "nibabel", "matplotlib", "pydantic"}
LONGEST_FILE = 400
IMPORTED_AS = {"connected-components-3d": "cc3d", "pillow": "PIL", "nvidia-ml-py": "pynvml"}
COMES_WITH_TORCH = {"triton"}  # with its wheels for GPUs, under a name for each kind of GPU; never needed

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_MODULES |= {"importlib", "pkgutil", "pydoc", "runpy"}  # what imports by name
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "tempfile.mktemp"}
FORBIDDEN_CALLS |= {"torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "shutil.unpack_archive"}
FORBIDDEN_CALLS |= {"torch.serialization.load", "torch.serialization.save", "torch.package.PackageImporter"}
FORBIDDEN_CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput"}  # run a line by the shell
# these unpickle, or run what a file says of how its values are made
FORBIDDEN_CALLS |= {f"blosc2.{name}" for name in ("open", "unpack", "unpack_array", "load_array", "load_tensor")}
MAY_UNPICKLE = {"numpy.load", "numpy.lib.format.read_array"}
# reading the package's own files and version is no import of a name found in data
ALLOWED_SUBMODULES = {"importlib.resources", "importlib.metadata"}
# a trainer of one's own, by the name that its owner typed
ALLOWED_PLACES = {("flarenet.trainers.own", "importlib")}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(tree, module, is_package):
    """Every module that `tree` imports, absolute: [(name, node)]; names taken from a package count as its modules."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                keep = len(module.split(".")) - node.level + is_package
                base = ".".join([*module.split(".")[:keep], *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append((inner if inner in MODULES else base, node))
    return found


def floor_of(room):
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def room_of(module):
    """The room of a module of the package; None for the package itself, which holds only the version."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def floor_faults(source, module, is_package=False):
    faults = []
    for name, node in imports_of(ast.parse(source), module, is_package):
        room, target = room_of(module), room_of(name)
        top = name.split(".")[0]
        if top == "flarenet" and target is not None and target != room and floor_of(target) >= floor_of(room):
            faults.append(f"{module}, line {node.lineno}: {room} must not import {target}")
        if top in ("torch", "monai") and room in TORCH_FREE:
            faults.append(f"{module}, line {node.lineno}: {room} must not import {top}")
    return faults


def danger_faults(source, module="source"):
    tree = ast.parse(source)
    faults = [
        f"{module}, line {node.lineno}: import of {name}"
        for name, node in imports_of(tree, "flarenet.source", False)
        if name.split(".")[0] in FORBIDDEN_MODULES
        and name not in ALLOWED_SUBMODULES
        and (module, name) not in ALLOWED_PLACES
    ]
    known = names_in(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (reason := _danger(node, known)):
            faults.append(f"{module}, line {node.lineno}: {reason}")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            faults.append(f"{module}, line {node.lineno}: bare except")
    return faults


def names_in(tree):
    """{name in a module: what it stands for, dotted, from the top}, of all that the module imports."""
    found = {"np": "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            tops = {alias.name.partition(".")[0] for alias in node.names if not alias.asname}
            found |= {top: top for top in tops} | {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    return found


def called(function, known):
    """What is called, dotted, by the names that a module imports: "?.read" of what a call gave; None for no name."""
    if isinstance(function, ast.Name):
        return known.get(function.id, function.id).removeprefix("builtins.")
    if not isinstance(function, ast.Attribute):
        return None
    return f"{called(function.value, known) or '?'}.{function.attr}".removeprefix("builtins.")


def _danger(call, known):
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    # a name may stand for True: only what is seen to be False is let through
    unsafe = [word for word in ("shell", "allow_pickle") if word in words and not _is_false(words[word])]
    if unsafe:
        return f"{unsafe[0]} that is not False"
    name = called(call.func, known)
    if name is None:
        return None
    if name in FORBIDDEN_CALLS or name.rpartition(".")[2] == "extractall":
        return f"call of {name}"
    if name in MAY_UNPICKLE and "allow_pickle" not in words:
        return f"{name} without allow_pickle=False"
    return None


def _is_false(value):
    return isinstance(value, ast.Constant) and value.value is False


def module_level(tree):
    """`tree` without the bodies of its functions and of `if TYPE_CHECKING`: what runs on import."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node):
            return None if getattr(node.test, "id", None) == "TYPE_CHECKING" else self.generic_visit(node)

    return Strip().visit(tree)


def find_cycle(graph):
    """One cycle of a directed graph {node: set of nodes} as a list; empty where there is none."""
    done = set()

    def walk(node, path):
        if node in path:
            return path[path.index(node) :] + [node]
        if node in done:
            return []
        for following in sorted(graph.get(node, ())):
            if cycle := walk(following, [*path, node]):
                return cycle
        done.add(node)
        return []

    return next((cycle for node in sorted(graph) if (cycle := walk(node, []))), [])


def commands():
    """{command: module} from pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    return dict(re.findall(r'^(flarenet_\w+) = "([\w.]+):main"$', text, re.MULTILINE))


def test_every_room_stands_on_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} == set.union(*FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    path = MODULES[module]
    assert floor_faults(path.read_text(), module, path.name == "__init__.py") == []


@pytest.mark.parametrize("module", MODULES)
def test_s02_nothing_dangerous_is_called(module):
    assert danger_faults(MODULES[module].read_text(), module) == []


def test_no_import_cycle():
    graph = {
        module: {
            name
            for name, _ in imports_of(module_level(ast.parse(path.read_text())), module, path.name == "__init__.py")
            if name in MODULES
        }
        for module, path in MODULES.items()
    }
    assert find_cycle(graph) == []


def test_files_stay_short():
    long = {module: lines for module, path in MODULES.items() if (lines := path.read_text().count("\n")) > LONGEST_FILE}
    assert long == {}


def test_dependencies_are_those_imported():
    text = (ROOT / "pyproject.toml").read_text()
    table = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)^$", text, re.DOTALL | re.MULTILINE).group(1)
    of_use = [line for line in extras.splitlines() if not line.startswith(("test = ", "release = "))]
    declared = re.findall(r'"([\w-]+)', "\n".join([table, *of_use]))
    used = {
        name.split(".")[0]
        for module, path in MODULES.items()
        for name, _ in imports_of(ast.parse(path.read_text()), module, path.name == "__init__.py")
    }
    assert used - set(sys.stdlib_module_names) - {"flarenet"} - COMES_WITH_TORCH == {
        IMPORTED_AS.get(name, name.lower()) for name in declared
    }


def test_the_source_archive_holds_every_folder_that_make_test_reads():
    (checked,) = re.findall(r"ruff check (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    held = re.findall(r"^graft (\w+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    assert "benchmarks" in checked.split() and set(checked.split()) <= {PACKAGE.name, *held}


@pytest.mark.parametrize("command, module", commands().items())
def test_a_command_runs_as_a_module_and_its_help_is_instant(command, module):
    line = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {told.rpartition("|")[2].strip() for told in done.stderr.splitlines()}
    assert f"usage: {command}" in done.stdout
    assert "argparse" in loaded and SLOW_TO_IMPORT & loaded == set()


@pytest.mark.parametrize("module", commands().values())
def test_help_says_what_every_argument_is_and_its_default(module, monkeypatch):
    parsers = []

    def take(parser, *_):
        parsers.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", take)
    with pytest.raises(SystemExit):
        importlib.import_module(module).main([])
    actions = list(parsers[0]._actions)
    for one in [one for one in actions if isinstance(one, argparse._SubParsersAction)]:
        actions.remove(one)
        actions += [each for part in one.choices.values() for each in part._actions]
    assert [one.dest for one in actions if not one.help] == []
    told = [one for one in actions if str(one.default) not in ("None", "False", "[]", argparse.SUPPRESS)]
    assert [one.dest for one in told if "default" not in one.help] == []


def test_all_commands_are_declared():
    words = "plan train pseudo predict model compare ablate measure evaluate report demo"
    assert set(commands()) == {f"flarenet_{word}" for word in words.split()}


# the checks themselves, on sources that break the rule


@pytest.mark.parametrize(
    "module, source",
    [
        ("flarenet.data.nifti", "from ..planning import plan"),
        ("flarenet.data.nifti", "from ..training.losses import dice"),
        ("flarenet.planning.rules.configurations", "def work():\n    from ...phantom import phantom_case"),
        ("flarenet.networks.unet", "from ..preparation.prepare import prepare_image"),
        ("flarenet.errors", "import flarenet.volume"),
        ("flarenet.evaluation.scores", "def work():\n    import torch.nn"),
        ("flarenet.phantom.case", "from monai.networks import nets"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert len(floor_faults(source, module)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from importlib import import_module",
        "import importlib",
        "from pkgutil import resolve_name",
        "torch.load(path)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=1)",
        "subprocess.run(line, shell=flag)",
        "subprocess.getoutput(line)",
        "from subprocess import getstatusoutput as said\nsaid(line)",
        "archive.extractall(folder)",
        "import shutil\nshutil.unpack_archive(path)",
        "blosc2.open(path)",
        "import blosc2 as b\nb.unpack(content)",
        "from blosc2 import unpack_array\nunpack_array(content)",
        "blosc2.load_array(path)",
        "blosc2.load_tensor(path)",
        "tempfile.mktemp()",
        "yaml.load(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "np.lib.format.read_array(stream, allow_pickle=True)",
        "from numpy.lib.format import read_array\nread_array(stream, allow_pickle=flag)",
        "np.lib.format.read_array(stream, True)",
        "torch.jit.load(path)",
        "torch.serialization.load(path)",
        "from torch.serialization import load\nload(path)",
        "torch.package.PackageImporter(path)",
        "from torch import load\nload(path)",
        "from torch import jit\njit.load(path)",
        "from torch import load as read\nread(path)",
        "import torch as t\nt.load(path)",
        "import torch.jit as j\nj.load(path)",
        "import torch.jit\ntorch.load(path)",
        "from os import system\nsystem(line)",
        "from numpy import load\nload(path)",
        "from tempfile import mktemp\nmktemp()",
        "import builtins\nbuiltins.eval(text)",
        "def work():\n    from builtins import exec as run\n    run(text)",
        "tarfile.open(path).extractall(folder)",
        "try:\n    work()\nexcept:\n    pass",
    ],
)
def test_a_danger_is_found(source):
    assert len(danger_faults(source)) == 1


def test_what_is_allowed_is_not_found():
    harmless = "network.eval()\nnp.load(path, mmap_mode='r', allow_pickle=False)\nimport importlib.resources\n"
    harmless += "from ..schema import load\nload(Plan, path)\nfrom re import compile\ncompile(pattern)\n"
    harmless += "from numpy import load as read\nread(path, allow_pickle=False)\nsafetensors.torch.load(content)"
    harmless += "\nsubprocess.run(words, shell=False)\nnp.lib.format.read_array(stream, allow_pickle=False)"
    harmless += "\nimport blosc2\nblosc2.ndarray_from_cframe(content)\nopen(path)"
    assert danger_faults(harmless) == []
    downward = "from ...data import labels\nfrom ..plan import Plan\nimport numpy"
    assert floor_faults(downward, "flarenet.planning.rules.configurations") == []


def test_a_cycle_is_found():
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    tree = module_level(ast.parse("import a\ndef f():\n    import b\nif TYPE_CHECKING:\n    import c"))
    assert [name for name, _ in imports_of(tree, "flarenet.x", False)] == ["a"]
