from rich.console import Console

from flarenet.terminal import new_table, show


def test_numbers_stand_to_the_right_and_nothing_is_cut_off():
    table = new_table("cases", "case", ">s")
    table.add_row("a" * 30, "1.0")
    assert [(column.header, column.justify) for column in table.columns] == [("case", "left"), ("s", "right")]
    console = Console(record=True, width=20)
    console.print(table)
    assert console.export_text().count("a") == 30 + 2  # and those of "cases" and "case"


def test_names_that_look_like_markup_are_printed_as_they_are():
    names = ("lesion [benign]", "cyst [/mass]", "[red]organ", "a\\[b]")
    table = new_table("[bold]set", "label", *names)
    for name in names:
        table.add_row(name, *names)
    console = Console(record=True, width=200)
    console.print(table)
    title, said = console.export_text().split("\n", 1)
    assert title.strip() == "[bold]set"
    assert [said.count(name) for name in names] == [1 + 4 + 1] * 4  # as a column, in it, and at the start of a row


def test_in_a_log_tables_are_wide_and_what_is_said_stays_as_it_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")  # which is of a terminal
    table = new_table("cases", "case", "why")
    table.add_row("a" * 70, "b" * 70)
    show(table, notes=["[b]odd"], failed={"c": "no [i]file"})
    said = capsys.readouterr().out.splitlines()
    assert any("a" * 70 in line and "b" * 70 in line for line in said)
    assert said[-2:] == ["note: [b]odd", "failed: c: no [i]file"]
