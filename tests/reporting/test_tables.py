from flarenet.reporting.content import Cell, Heading, Table
from flarenet.reporting.tables import to_csv, to_latex

TABLE = Table(
    "scores",
    "DSC & NSD",
    ((Heading(""), Heading("A_1", 2)), (Heading("label"), Heading("DSC (%)"), Heading("n"))),
    ((Cell("liver"), Cell("98.45 ± 0.42", best=True), Cell("50")), (Cell("tumor"), Cell("-"), Cell("0"))),
    ((Cell("all"), Cell("98.45"), Cell("50")),),
)


def test_csv_has_means_and_deviations_apart():
    assert to_csv(TABLE).splitlines() == [
        "label,A_1 DSC (%),A_1 DSC (%) sd,A_1 n",
        "liver,98.45,0.42,50",
        "tumor,-,,0",
        "all,98.45,,50",
    ]


def test_latex_is_escaped_and_the_best_is_bold():
    lines = to_latex(TABLE).splitlines()
    assert lines[0] == "% DSC & NSD" and r"\begin{tabular}{lrr}" in lines
    assert r" & \multicolumn{2}{c}{A\_1} \\" in lines
    assert r"label & DSC (\%) & n \\" in lines
    assert r"liver & \textbf{98.45 $\pm$ 0.42} & 50 \\" in lines
    assert lines.count(r"\midrule") == 2
