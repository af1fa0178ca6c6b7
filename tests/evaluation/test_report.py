import base64
import re

from flarenet.data.labels import LabelSet
from flarenet.evaluation.pairs import CaseScores
from flarenet.evaluation.report import write_report
from flarenet.evaluation.scores import LabelScore
from flarenet.evaluation.tables import summarise

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})


def _page(tmp_path, **changes) -> str:
    cases = [
        CaseScores("first", {"liver": LabelScore(dsc=0.81254, nsd=0.5)}),
        CaseScores("<script>", {"liver": LabelScore(dsc=0.0, nsd=0.0)}, "no prediction <b>"),
    ]
    given = {"title": "A & B", "pictures": {}} | changes
    write_report(tmp_path / "r.html", summarise(cases, LABELS), given["pictures"], title=given["title"])
    return (tmp_path / "r.html").read_text()


def test_scores_failures_and_means_are_on_the_page(tmp_path):
    page = _page(tmp_path)
    for words in ("A &amp; B", "0.8125", "1 of 2 cases scored", "organ (mean)", "0.4063", "no prediction &lt;b&gt;"):
        assert words in page


def test_names_from_data_are_escaped(tmp_path):
    page = _page(tmp_path)
    assert "<script" not in page and "&lt;script&gt;" in page


def test_nothing_is_fetched_and_pictures_are_inside(tmp_path):
    (tmp_path / "p.png").write_bytes(b"\x89PNG picture")
    page = _page(tmp_path, pictures={"first: mean DSC 0.8": tmp_path / "p.png"})
    assert base64.b64encode(b"\x89PNG picture").decode() in page
    assert not re.search(r"https?:|<link|url\(|@import", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]+)', page))
