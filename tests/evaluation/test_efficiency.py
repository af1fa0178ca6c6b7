"""efficiency.json as it grows, case by case."""

from flarenet.evaluation import efficiency
from flarenet.evaluation.efficiency import CaseCost, Efficiency, EfficiencyFile, Sample, read_efficiency
from flarenet.evaluation.measure import thinned
from flarenet.schema import BYTES_OF_A_VALUE, as_saved


def cost(seconds):
    return CaseCost(
        size=(5, 6, 7),
        seconds=seconds,
        gpu_peak_mb=None,
        gpu_area_mb_s=None,
        cpu_percent=100.0,
        peak_rss_mb=9.0,
        samples=tuple(Sample(at_s=n / 10, gpu_mb=None, rss_mb=9.0) for n in range(3)),
    )


def test_a_case_is_put_into_json_once_and_again_where_it_was_measured_anew(tmp_path, monkeypatch):
    to_json, made = efficiency.to_json, []

    def counted(value, indent=0):
        if isinstance(value, dict) and "samples" in value:
            made.append(value["seconds"])
        return to_json(value, indent)

    monkeypatch.setattr(efficiency, "to_json", counted)
    file, a, b, again = EfficiencyFile(tmp_path), cost(1.0), cost(2.0), cost(3.0)
    command = ("predict", "{input}", "{output}", "and so many further words that they do not fit on one line")
    for cases, failed in (
        ({}, {"a": "exit code 1"}),
        ({"a": a}, {}),
        ({"a": a, "b": b}, {"c": "a reason\nof two lines"}),
        ({"a": again, "b": b}, {}),
    ):
        found = Efficiency(device="a CPU", cases=cases, command=command, failed=failed)
        file.write(found)
        text = (tmp_path / "efficiency.json").read_text()
        assert text == as_saved(found)
        assert list(read_efficiency(tmp_path).cases.values()) == list(cases.values())
    assert made == [1.0, 2.0, 3.0]


def test_the_file_of_thousands_of_cases_of_an_hour_can_be_read(tmp_path):
    samples = thinned([Sample(at_s=n / 10, gpu_mb=23456.7, rss_mb=34567.8) for n in range(36_000)])
    long = cost(3600.0).model_copy(update={"samples": samples})
    EfficiencyFile(tmp_path).write(Efficiency(device="a CPU", cases={"a": long}))
    text = (tmp_path / "efficiency.json").read_text()
    assert 5000 * len(text) < Efficiency.largest_bytes
    assert 5000 * sum(map(text.count, "[{,")) < Efficiency.largest_bytes // BYTES_OF_A_VALUE


def test_a_name_that_is_no_utf8_stays_one_key_when_the_run_goes_on(tmp_path):
    file, name = EfficiencyFile(tmp_path), "b\udcfc"
    file.write(Efficiency(device="a CPU", cases={name: cost(1.0)}))
    before = read_efficiency(tmp_path)
    file.write(before.model_copy(update={"cases": {**before.cases, name: cost(2.0)}}))
    assert {key: case.seconds for key, case in read_efficiency(tmp_path).cases.items()} == {r"b\udcfc": 2.0}
