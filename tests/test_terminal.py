from rich.console import Console

from flarenet.terminal import new_table


def test_numbers_stand_to_the_right_and_nothing_is_cut_off():
    table = new_table("cases", "case", ">s")
    table.add_row("a" * 30, "1.0")
    assert [(column.header, column.justify) for column in table.columns] == [("case", "left"), ("s", "right")]
    console = Console(record=True, width=20)
    console.print(table)
    assert console.export_text().count("a") == 30 + 2  # and those of "cases" and "case"
