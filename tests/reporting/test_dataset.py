import pytest

from flarenet.data.dataset_file import read_dataset
from flarenet.data.reading import Reading
from flarenet.phantom import write_phantom_set
from flarenet.planning.budget import AUTO
from flarenet.planning.fusion import Fusion
from flarenet.planning.measuring.fingerprint import fingerprint
from flarenet.planning.summary import cohort_table
from flarenet.reporting.dataset import annotation_table, case_rows, dataset_section, plan_section
from flarenet.trainers.planner import make_plan


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The fingerprint of five phantom cases, one of each pattern: 13 organs; five and tumor; tumor; none; five."""
    folder = tmp_path_factory.mktemp("raw") / "P"
    write_phantom_set(folder, cases=5, test_cases=0, seed=3, detail=0.4)
    measured, failed = fingerprint(read_dataset(folder, Reading()))
    assert not failed
    return measured


def test_who_looked_for_what(found):
    table = annotation_table(found)
    assert [heading.text for heading in table.head[0]] == [
        *("label", "C1 (1)", "C2 (1)", "C3 (1)", "C4 (1)", "C5 (1)", "all")
    ]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["liver"] == ["1 of 1", "1 of 1", "1 of 1", "-", "-", "3 of 3"]
    assert rows["duodenum"] == ["1 of 1", "-", "-", "-", "-", "1 of 1"]
    assert rows["tumor"][0] == "-" and rows["tumor"][-1].endswith("of 2")


def test_every_case_is_a_row(found):
    rows = {row[0].text: row[1].text for row in case_rows(found).rows}
    assert rows == {
        **{"phantom0000": "C1", "phantom0001": "C2", "phantom0002": "C4", "phantom0003": "C5", "phantom0004": "C3"}
    }


def test_intensities_without_a_unit_are_not_called_hu(found):
    for modality, ends in (("CT", ["lowest HU", "highest HU"]), ("MR", ["lowest value", "highest value"])):
        measured = found.model_copy(update={"modality": modality})
        assert [heading.text for heading in case_rows(measured).head[0]][4:6] == ends
        assert [column.header for column in cohort_table(measured).columns][4:] == ends


def test_charts_hold_every_case_and_the_measured_hu(found):
    charts = {part.name: part.figure for part in dataset_section(found).parts if part.kind == "chart"}
    points = [point for group in charts["spacing"].axes[0].collections for point in group.get_offsets().tolist()]
    assert sorted(points) == sorted([max(case.spacing_mm[1:]), case.spacing_mm[0]] for case in found.cases)
    bars = charts["intensities"].axes[0].collections
    liver = [segment[:, 0].tolist() for bar in bars for segment in bar.get_segments()][0]
    facts = found.cohorts[0].labels[1]
    assert liver == [facts.percentile_05_hu, facts.percentile_95_hu]


def test_a_plan_s_reasons_are_shown(found):
    plan = make_plan(found, AUTO)
    section = plan_section(plan, found)
    names = [part.name for part in section.parts if part.kind == "table"]
    assert names == ["plan_configurations", "plan_networks", "plan_steps", "plan_reasons", "plan_estimates"]
    text = [cell.text for part in section.parts if part.kind == "table" for row in part.rows for cell in row]
    assert plan.configurations["2d"].why["patch"] in text
    other = plan.model_copy(update={"fingerprint_hash": "0" * 64, "fusion": Fusion(rule="probability")})
    parts = plan_section(other, found).parts
    assert any(part.kind == "words" and part.bad for part in parts)
    assert "plan_fusion" in [part.name for part in parts if part.kind == "table"]
