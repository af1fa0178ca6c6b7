"""python -m flarenet.cli.patterns: infers which labels were annotated in each case of a collection; prints JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from .shell import count, new_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(
        "flarenet.cli.patterns", "Infer what was looked for in each case, from the labels in all masks."
    )
    parser.add_argument("file", metavar="FILE.json", help="a JSON object: case -> values present in its mask")
    parser.add_argument(
        "--lesions",
        type=count,
        nargs="+",
        default=[],
        metavar="V",
        help="values of lesions, which may be absent from more cases than organs (default: none)",
    )
    return run(parser, work, argv)


def work(arguments: Namespace) -> None:
    """Print the cohorts, the labels that cases lack of their pattern, and the cases whose pattern is not certain."""
    from ..planning.measuring.inferred import infer_patterns, read_present
    from ..planning.rules.patterns import cohorts
    from ..schema import to_json

    present = read_present(arguments.file)
    inferred = infer_patterns(present, findings=arguments.lesions)
    absent = {case: sorted({*inferred.patterns[case]} - found) for case, found in present.items()}
    content = {
        "cohorts": [{"annotated": list(p), "cases": count} for p, count in cohorts(inferred.patterns.values())],
        "absent": {case: values for case, values in absent.items() if values},
        "ambiguous": inferred.ambiguous,
    }
    print(to_json(content))


if __name__ == "__main__":
    sys.exit(main())
