"""JSON at the border: strict, bounded, and every mistake with its place."""

from __future__ import annotations

import json
import os
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, field_validator

from flarenet.errors import DatasetError, PlanError, StorageError
from flarenet.schema import (
    LARGEST_TABLE_BYTES,
    Frozen,
    leaves,
    load,
    load_or_none,
    parse,
    parse_all,
    read_json,
    save,
    save_to_load,
    to_json,
)
from flarenet.whole import write_text
from tests.unreadable import make_unreadable


class Leaf(Frozen):
    count: int
    sizes: tuple[float, ...] = ()
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("an even number")
        return number


class Tree(Frozen):
    leaf: Leaf
    names: dict[str, int] = {}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_what_is_saved_is_loaded(tmp_path):
    tree = Tree(leaf=Leaf(count=3, sizes=(0.1, 2.0)), names={"ä": 1})
    save(tree, tmp_path / "t.json")
    assert load(Tree, tmp_path / "t.json", PlanError) == tree
    assert (tmp_path / "t.json").read_text().endswith("\n")


def test_what_can_be_made_anew_is_none_where_it_is_missing_or_wrong(tmp_path):
    assert load_or_none(Leaf, tmp_path / "leaf.json") is None
    save(Leaf(count=3), tmp_path / "leaf.json")
    assert load_or_none(Leaf, tmp_path / "leaf.json") == Leaf(count=3)
    assert load_or_none(Tree, tmp_path / "leaf.json") is None
    (tmp_path / "leaf.json").write_text("{")
    assert load_or_none(Leaf, tmp_path / "leaf.json") is None


@pytest.mark.parametrize(
    ("data", "key", "found", "expected"),
    [
        ({"leaf": {"count": "3"}}, "leaf.count", "'3'", "a valid integer"),
        ({"leaf": {"count": 3.5}}, "leaf.count", "3.5", "a valid integer"),
        ({"leaf": {"count": True}}, "leaf.count", "True", "a valid integer"),
        ({"leaf": {}}, "leaf.count", "nothing", "a value"),
        ({"leaf": {"count": 3, "colour": 1}}, "leaf.colour", "1", "no key of this name"),
        ({"leaf": {"count": 3, "sizes": [1, "2"]}}, "leaf.sizes.1", "'2'", "a valid number"),
        ({"leaf": {"count": 3}, "names": {"a": None}}, "names.a", "None", "a valid integer"),
        ({"leaf": {"count": 3, "even": 3}}, "leaf.even", "3", "an even number"),
        ([], "(top level)", "[]", "an object"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(data, key, found, expected):
    with pytest.raises(PlanError) as caught:
        parse(Tree, data, "plan.json", PlanError)
    assert caught.value.thing == f"plan.json: key {key!r}"
    assert (str(caught.value.found), str(caught.value.expected)) == (found, expected)


def test_frozen_means_frozen():
    leaf = Leaf(count=1)
    with pytest.raises(ValidationError):
        leaf.count = 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a'"),
        (b'{"x": {"b": 1, "b": 1}}', "key 'x.b'"),
        (b'{"a": {"b": [1, {"c": NaN}]}}', "key 'a.b.1.c'"),
        (b'{"x": {"a": NaN}, "x": 1}', "key 'x'"),
        (b'{"a": 1e999}', "key 'a'"),
        (b'{"a": ' + b"9" * 401 + b"}", "a number of 401 characters"),
        (b'\xef\xbb\xbf{"a": 1}', "line 1, column 1"),
        (b"[-Infinity]", "-Infinity"),
        (b'{\n "a": }', "line 2, column 7"),
        (b"", "line 1, column 1"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_cannot_be_trusted_is_refused(tmp_path, content, words):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_json(path, DatasetError)
    assert words in str(caught.value)
    assert str(path) in caught.value.thing


def test_a_file_that_cannot_be_read_is_no_wrong_json(tmp_path):
    path = tmp_path / "x.json"
    path.touch()
    make_unreadable(path)
    with pytest.raises(StorageError) as caught:
        read_json(path, DatasetError)
    assert (caught.value.thing, caught.value.found) == (str(path), "Input/output error")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="no such file"):
        read_json(tmp_path / "file" / "x.json", DatasetError)


def test_what_would_take_long_is_refused_at_once(tmp_path):
    path, contents = tmp_path / "x.json", (b"[" * 100_000, b'{"a":' * 100_000, b"9" * 2_000_000)
    for content in contents:
        path.write_bytes(content)
        begin = time.perf_counter()
        with pytest.raises(DatasetError):
            read_json(path, DatasetError)
        assert time.perf_counter() - begin < 1
    with open(path, "wb") as stream:
        stream.truncate(50 << 20)
    with pytest.raises(DatasetError, match="52428800 bytes"):
        read_json(path, DatasetError, largest_bytes=32 << 20)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_json(tmp_path / "pipe", DatasetError)


@pytest.mark.parametrize("value", ["[]", "{}", '""', "0.5"])
def test_many_small_values_are_refused_before_they_take_memory(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(f"[{','.join([value] * 400_000)}]")
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="brackets and commas") as caught:
            load(Tree, path, DatasetError)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.expected == "at most 131072" and peak < 10 << 20


def test_what_grows_with_cases_may_be_larger(tmp_path):
    class Table(Frozen):
        largest_bytes = LARGEST_TABLE_BYTES
        cases: tuple[str, ...]

    table = Table(cases=tuple(f"case_{number:06} of a large collection" for number in range(90_000)))
    save(table, tmp_path / "x.json")
    assert (tmp_path / "x.json").stat().st_size > 3_000_000
    assert load(Table, tmp_path / "x.json", PlanError) == table
    with pytest.raises(PlanError, match="at most 2097152 bytes"):
        load(Leaf, tmp_path / "x.json", PlanError)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((0.5,) * 12, "found: 13 brackets and commas\n  expected: at most 10"),  # 16 bytes each
        ((1.2345678901234567,) * 8, "found: 194 bytes to write\n  expected: at most 160 bytes"),  # 22 a line
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, sizes, words):
    class Small(Frozen):
        largest_bytes = 160
        sizes: tuple[float, ...]

    with pytest.raises(PlanError, match=words) as caught:
        save_to_load(Small(sizes=sizes), tmp_path / "x.json", PlanError)
    assert "fewer cases" in str(caught.value.remedy) and not list(tmp_path.iterdir())
    least = Small(sizes=(0.5,))
    save_to_load(least, tmp_path / "x.json", PlanError)
    assert load(Small, tmp_path / "x.json", PlanError) == least


def test_every_wrong_field_is_found():
    tree, wrong = parse_all(Tree, {"leaf": {"count": "3", "colour": 1}, "names": {"a": None}}, "t", PlanError)
    assert tree is None
    keys = [error.thing.split()[-1] for error in wrong.values()]
    assert keys == ["'leaf.count'", "'leaf.colour'", "'names.a'"]
    assert parse_all(Tree, {"leaf": {"count": 3}}, "t", PlanError) == (Tree(leaf=Leaf(count=3)), {})


def test_deep_data_is_refused_by_a_model_too(tmp_path):
    (tmp_path / "x.json").write_text("[" * 700 + "]" * 700)
    with pytest.raises(PlanError):
        load(Tree, tmp_path / "x.json", PlanError)


def test_size_is_bounded_and_a_missing_file_named(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_json(tmp_path / "none.json", DatasetError)
    (tmp_path / "x.json").write_text('"12345678"')
    with pytest.raises(DatasetError, match="10 bytes"):
        read_json(tmp_path / "x.json", DatasetError, largest_bytes=9)


@given(VALUES)
def test_to_json_is_json(value):
    assert json.loads(to_json(value)) == value


def test_a_file_name_that_is_no_utf8_is_written_so_that_it_can_be_read(tmp_path):
    name = os.fsdecode(b"M\xfcller")
    read = r"M\udcfcller"
    for value, found in (
        ([name], [read]),
        ({name: 1}, {read: 1}),
        ({"a" * 100: [name]}, {"a" * 100: [read]}),
        ({name + "a" * 100: "ö"}, {read + "a" * 100: "ö"}),
    ):
        write_text(tmp_path / name, to_json(value))
        assert read_json(tmp_path / name, PlanError) == found


def test_short_values_stay_on_one_line_and_long_ones_do_not():
    assert to_json({"a": [1, 2, 3]}) == '{"a": [1, 2, 3]}'
    assert to_json({"a": ["x" * 60, "y" * 60]}) == f'{{\n "a": [\n  "{"x" * 60}",\n  "{"y" * 60}"\n ]\n}}'


def test_the_leaves_of_a_value_have_the_path_of_their_keys():
    value = {"a": {"b": 1, "c": {}, "d": {"e": None}}, "f": [{"g": 2}]}
    assert list(leaves(value)) == [("a.b", 1), ("a.d.e", None), ("f", [{"g": 2}])]
