from pathlib import Path

from flarenet.planning.plan_file import load_plan
from flarenet.trainers.training_setup import identity_of
from flarenet.training.batches import Sample

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def identity(plan, train=(), held_out=(), *, starts_from=None):
    """Of cases that are (name, key)."""
    part = plan.trainer("3DOrgan")
    cases = ([Sample(name, None, {}, {}, key=key) for name, key in named] for named in (train, held_out))
    return identity_of(part.steps[0], *cases, plan=plan, part=part, starts_from=starts_from)


def test_a_run_goes_on_where_tolerances_of_scores_changed_and_not_where_a_label_did():
    plan = load_plan(GOLDEN / "plan_spleen_auto.json")

    def with_labels(**fields):
        return plan.model_copy(update={"labels": plan.labels.model_copy(update=fields)})

    assert identity(with_labels(tolerance_mm={"spleen": 9.0})) == identity(plan)
    assert identity(with_labels(names=("background", "liver"))) != identity(plan)


def test_a_run_goes_on_with_a_batch_in_other_parts_and_not_with_another_update():
    plan = load_plan(GOLDEN / "plan_spleen_auto.json")

    def updated(**fields):
        part = plan.trainer("3DOrgan")
        part = part.model_copy(update={"update": part.update.model_copy(update=fields)})
        return identity(plan.model_copy(update={"trainers": {"3DOrgan": part}}))

    assert updated(accumulate=2) == identity(plan)
    assert updated(clip_norm=1.0) != identity(plan)


def test_other_cases_and_another_start_make_another_run():
    plan = load_plan(GOLDEN / "plan_spleen_auto.json")
    a, b, changed = ("a", "1"), ("b", "2"), ("a", "3")
    runs = [
        identity(plan, [a, b]),
        identity(plan, [a]),
        identity(plan, [changed, b]),  # the same name, made from something else
        identity(plan, [b], [a]),
        identity(plan, [b], [changed]),
        identity(plan, [a, b], starts_from="0" * 64),
        identity(plan, [a, b], starts_from="1" * 64),
    ]
    assert all(one != other for number, one in enumerate(runs) for other in runs[:number])
    assert identity(plan, [a, b], starts_from="0" * 64) == runs[-2]
