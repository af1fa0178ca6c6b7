import pytest

from flarenet.evaluation.efficiency import CaseCost, Efficiency, Sample
from flarenet.reporting.efficiency import efficiency_section
from flarenet.reporting.published import published


def _cost(seconds, gpu_peak_mb=None, gpu_area_mb_s=None, depth=50, samples=()):
    return CaseCost(
        size=(512, 512, depth),
        seconds=seconds,
        gpu_peak_mb=gpu_peak_mb,
        gpu_area_mb_s=gpu_area_mb_s,
        cpu_percent=150.0,
        peak_rss_mb=900.0,
        samples=samples,
    )


SAMPLES = (Sample(at_s=0.0, gpu_mb=500.0, rss_mb=100.0), Sample(at_s=0.1, gpu_mb=5000.0, rss_mb=900.0))
A = Efficiency(device="A GPU", cases={"b": _cost(10.0, 5000.0, 20000.0, 90, SAMPLES), "a": _cost(20.0, 2000.0, 8000.0)})
B = Efficiency(device="another", cases={"b": _cost(12.0, 3000.0, 30000.0, 90)})


def _texts(rows):
    return {row[0].text: [cell.text for cell in row[1:]] for row in rows}


def test_numbers_means_and_sums_by_hand():
    table = efficiency_section({"A": A}).parts[1]
    assert [cell.text for cell in table.rows[0]] == ["a", "512 x 512 x 50", "20.00", "2000", "8000", "150", "900"]
    assert _texts(table.foot) == {
        "mean, n = 2": ["", "15.00", "3500", "14000", "150", "900"],
        "sum, of peaks the largest, n = 2": ["", "30.00", "5000", "28000", "", "900"],
    }
    assert [[cell.bad for cell in row[2:4]] for row in table.rows] == [[True, False], [False, True]]


def test_a_case_that_a_model_lacks_is_a_dash_and_the_least_mean_of_the_others_is_bold():
    """B, which lacks the long case, would have the least time on average, though it is the slower one in the other."""
    table = efficiency_section({"A": A, "B": B}).parts[1]
    assert _texts(table.rows)["a"][6:] == ["-"] * 5
    mean, total = table.foot
    assert [cell.text for cell in (mean[0], *mean[2:5], *mean[7:10])] == [
        *("mean, n = 1", "10.00", "5000", "20000", "12.00", "3000", "30000")
    ]
    assert [cell.text for cell in (*total[2:5], *total[7:10])] == [cell.text for cell in (*mean[2:5], *mean[7:10])]
    assert [cell.best for cell in mean[2:5]] == [True, False, True]
    assert [cell.best for cell in mean[7:10]] == [False, True, False]


def test_models_without_a_case_in_common_have_no_mean():
    other = Efficiency(device="another", cases={"c": _cost(5.0)})
    none = Efficiency(device="another", cases={}, failed={"a": "exit code 1"})
    mean, total = efficiency_section({"A": B, "B": other}).parts[1].foot
    assert {cell.text for cell in (*mean[2:], *total[2:])} == {"-", ""} and mean[0].text == "mean, n = 0"
    mean, total = efficiency_section({"A": A, "B": none}).parts[2].foot  # the failures of B stand before
    assert [cell.text for cell in (mean[0], mean[2], mean[7], total[2], total[7])] == [
        *("mean, n = 2", "15.00", "-", "30.00", "-")
    ]


def test_without_a_gpu_there_are_no_columns_of_it_and_no_curve():
    cpu = Efficiency(
        device="a processor", cases={"a": _cost(3.0, samples=(Sample(at_s=0.0, gpu_mb=None, rss_mb=5.0),))}
    )
    section = efficiency_section({"A": cpu})
    assert [heading.text for heading in section.parts[1].head[1]] == [
        *("case", "size", "time (s)", "CPU (%)", "RAM peak (MB)")
    ]
    assert [part.name for part in section.parts[2:]] == ["efficiency_rss_mb"]


def test_a_command_that_failed_is_named():
    section = efficiency_section({"A": A.model_copy(update={"failed": {"c": "exit code 1"}})})
    assert section.parts[1].bad and section.parts[1].lines == ("c: exit code 1",)


def test_curves_are_the_samples():
    section = efficiency_section({"A": A, "B": B})
    gpu = next(part for part in section.parts[2:] if part.name == "efficiency_gpu_mb")
    line, limit = gpu.figure.axes[0].lines
    assert line.get_xydata().tolist() == [[0.0, 500.0], [0.1, 5000.0]]
    assert limit.get_ydata()[0] == pytest.approx(4096)


def test_the_paper_s_rows_are_marked():
    table = efficiency_section({"A": A}, published=published().efficiency).parts[-1]
    assert table.title.startswith("† published") and table.notes[0].startswith("†")
    assert [cell.text for cell in table.rows[0]] == ["0001", "512 x 512 x 55", "50.82", "3012", "41724"]
