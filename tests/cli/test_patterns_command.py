import json
import subprocess
import sys
from pathlib import Path

import pytest

from flarenet.cli.patterns import main


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1, 2]", "an object"), ('{"a": 3}', "case 'a'"), ('{"a": [1.5]}', "case 'a'"), ('{"a": [true]}', "case 'a'"),
     ('{"a": [-1]}', "case 'a'"), ("{", "valid JSON"), (None, "no such file")],
)  # fmt: skip
def test_a_bad_file_is_a_message_and_an_exit_code(tmp_path, capsys, text, words):
    path = tmp_path / "present.json"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 4
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and "Traceback" not in said.err


def test_lesions_may_be_absent_from_half_of_a_collection(tmp_path, capsys):
    path = tmp_path / "present.json"
    path.write_text(json.dumps({f"a{i}": [1, 2] if i % 2 else [1] for i in range(60)}))
    for words, cohorts in (([], [([1], 30), ([1, 2], 30)]), (["--lesions", "2"], [([1, 2], 60)])):
        assert main([str(path), *words]) == 0
        found = json.loads(capsys.readouterr().out)["cohorts"]
        assert sorted((one["annotated"], one["cases"]) for one in found) == cohorts


def test_the_command_prints_json(tmp_path):
    path = tmp_path / "present.json"
    path.write_text('{"a": [0, 1, 2], "b": [1, 2], "c": [2, 1]}')
    words = [sys.executable, "-m", "flarenet.cli.patterns", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout) == {"cohorts": [{"annotated": [1, 2], "cases": 3}], "absent": {}, "ambiguous": {}}
    assert done.stderr == ""
