from pathlib import Path

from flarenet.planning.plan_file import load_plan
from flarenet.trainers.identity import identity_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def identity(plan):
    part = plan.trainer("3DOrgan")
    return identity_of(part.steps[0], (), (), plan=plan, part=part, starts_from=None)


def test_a_run_goes_on_where_tolerances_of_scores_changed_and_not_where_a_label_did():
    plan = load_plan(GOLDEN / "plan_spleen_auto.json")

    def with_labels(**fields):
        return plan.model_copy(update={"labels": plan.labels.model_copy(update=fields)})

    assert identity(with_labels(tolerance_mm={"spleen": 9.0})) == identity(plan)
    assert identity(with_labels(names=("background", "liver"))) != identity(plan)
