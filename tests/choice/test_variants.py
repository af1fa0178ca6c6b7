"""Lists of variants, the plans they mean, and which runs they share; nothing is trained."""

import json

import pytest

from flarenet.choice.planned_runs import data_key, planned_runs, waves
from flarenet.choice.variants import AblationList, Answer, Variant, answers_of, find_list, list_changes, shipped_lists
from flarenet.errors import FlarenetError, PlanError, UnsafeError, UsageError
from flarenet.planning.plan_file import load_plan, override
from flarenet.planning.planned import load_fingerprint
from flarenet.planning.runs import Run


@pytest.fixture(scope="module")
def base(tiny_set):
    return load_plan(tiny_set.plan)


@pytest.fixture(scope="module")
def found(tiny_set):
    return load_fingerprint(tiny_set)


@pytest.fixture
def plans(base, found):
    """plans(list name) -> variant -> its answers."""

    def of(name, seed=0, more=()):
        ablation = shipped_lists()[name]
        return {
            variant.name: answers_of(
                variant, base=base, fingerprint=found, seed=seed, changes=list_changes(ablation, variant, more)
            )
            for variant in ablation.variants
        }

    return of


def variant(**fields):
    return Variant.model_validate({"name": "v", "score": ("DualDecoder2D",), **fields})


def keys(answer, held_out=(), data="of the set"):
    return {str(run): planned.key for run, planned in planned_runs(answer, held_out, data=data).items()}


def test_the_papers_list_differs_by_the_unlabelled_cases_alone(plans):
    (with_,), (without,) = plans("paper").values()
    assert with_.plan.recipe == without.plan.recipe == "paper"
    assert (with_.run, without.run) == (Run("DualDecoder2D", 4), Run("DualDecoder2D", 3))
    assert with_.plan.step("DualDecoder2D", 1).subset.patterns == ((),)
    assert all(() not in step.subset.patterns for step in without.plan.trainer("DualDecoder2D").steps)
    shared = set(keys(with_).values()) & set(keys(without).values())
    assert shared == {keys(with_)["3DOrgan/1"]}
    assert "3DCancer/1" in keys(with_) and "3DCancer/1" not in keys(without)  # no case left lacks lesions alone


@pytest.fixture
def plan_by(found):
    """plan_by(the data set's plan, fields of a variant) -> the variant's plan."""

    def make(base, **fields):
        (answer,) = answers_of(variant(**fields), base=base, fingerprint=found, seed=0)
        return answer.plan

    return make


def test_what_the_data_set_was_planned_without_is_left_out_unless_a_variant_says_otherwise(base, plan_by):
    def learns_from_unlabelled(base, **fields):
        steps = plan_by(base, **fields).trainer("DualDecoder2D").steps
        return any(() in step.subset.patterns for step in steps)

    less = base.model_copy(update={"without": "unlabelled"})
    assert learns_from_unlabelled(base) and not learns_from_unlabelled(base, without="unlabelled")
    assert not learns_from_unlabelled(less) and not learns_from_unlabelled(less, recipe="paper")
    assert learns_from_unlabelled(less, without="nothing")


def test_the_budget_is_the_plan_s_and_for_another_recipe_than_its_the_recipe_s(base, plan_by):
    own = base.model_copy(update={"budget": base.budget.model_copy(update={"gpu_memory_gb": 12.0})})
    said = [{}, {"budget": {"inference_seconds": 30.0}}, {"recipe": "paper"}]
    said += [{"recipe": "paper", "budget": {"gpu_memory_gb": 80.0}}]
    assert [plan_by(own, **fields).budget.gpu_memory_gb for fields in said] == [12.0, 12.0, 64.0, 80.0]


def test_filters_differ_by_the_rules_and_share_the_teachers(plans):
    (on,), (off,) = plans("filters").values()
    assert on.plan.step("DualDecoder2D", 1).pseudo.agreement == 1 and off.plan.step("DualDecoder2D", 1).pseudo is None
    of_on, of_off = keys(on), keys(off)
    assert list(of_on) == list(of_off)
    assert {run for run in of_on if of_on[run] == of_off[run]} == {"3DOrgan/1", "3DCancer/1"}


def test_heads_are_decoders_networks_or_one_head(plans):
    decoders, networks, joint = plans("heads").values()
    assert [answer.plan.trainer("Joint").network.groups for answer in decoders] == [("organ", "cancer")]
    assert [answer.plan.trainer("Joint").network.groups for answer in networks] == [("organ",), ("cancer",)]
    (one,) = joint
    assert one.plan.trainer("Joint").network.groups == ("all",) and one.plan.labels.groups == {
        "all": tuple(range(1, 15))
    }
    for answer, values in zip(networks, ({1}, {14})):
        assert all(values & set(pattern) for pattern in answer.plan.step("Joint", 1).subset.patterns)
    every = [answer for answers in (decoders, networks, joint) for answer in answers]
    assert len({keys(answer)["Joint/1"] for answer in every}) == 4


def test_a_network_for_each_group_needs_a_trainer_of_whole_networks(base, found):
    with pytest.raises(UsageError, match="variant 'v'.*\n.*step 1, with teachers"):
        answers_of(variant(recipe="auto", heads="networks"), base=base, fingerprint=found, seed=0)


@pytest.mark.parametrize(
    "change, same",
    [
        ("trainers.DualDecoder2D.steps.3.learning_rate=0.1", 5),  # the last of the curriculum: teachers, steps 1 to 3
        ("trainers.DualDecoder2D.steps.0.learning_rate=0.1", 2),  # teachers
        ("trainers.3DCancer.steps.0.learning_rate=0.1", 1),  # the other teacher
        ("trainers.Joint.steps.0.learning_rate=0.1", 6),  # nobody's
        ("configurations.2d.overlap=0.1", 6),  # of prediction, by models that teach nobody
        ("configurations.3d.overlap=0.1", 0),  # of prediction, by the teachers
        ("fusion.rule=probability", 0),
        ('fusion.largest=["liver"]', 6),  # of the whole label map, which no teacher gives
        ("seed=7", 0),
    ],
)
def test_a_run_is_another_where_anything_differs_that_determines_it(base, change, same):
    before = keys(Answer(base, Run("DualDecoder2D", 4)))
    after = keys(Answer(override(base, [change]), Run("DualDecoder2D", 4)))
    assert list(before) == ["3DOrgan/1", "3DCancer/1", *(f"DualDecoder2D/{step}" for step in (1, 2, 3, 4))]
    assert sum(before[run] == after[run] for run in before) == same


def test_another_fold_is_another_run(base):
    answer = Answer(base, Run("DualDecoder2D", 1))
    assert set(keys(answer, {"a", "b"}).values()).isdisjoint(keys(answer, {"a"}).values())
    assert keys(answer, ["b", "a"]) == keys(answer, {"a", "b"})


def test_tolerances_of_scores_and_remarks_are_no_part_of_a_run(base, found):
    labels = base.labels.model_copy(update={"tolerance_mm": {base.labels.names[1]: 9.0}})
    other, run = base.model_copy(update={"labels": labels, "fingerprint_hash": "1"}), Run("DualDecoder2D", 1)
    assert keys(Answer(other, run)) == keys(Answer(base, run))
    assert data_key(found.model_copy(update={"labels": labels, "suspicious": ("look at it",)})) == data_key(found)


@pytest.mark.parametrize("changed", [{"key": "1"}, {"annotated": ()}])
def test_other_bytes_or_another_pattern_are_other_data_and_other_runs(base, found, changed):
    cases = tuple(case.model_copy(update=changed) if case.annotated else case for case in found.cases)
    other = data_key(found.model_copy(update={"cases": cases}))
    answer = Answer(base, Run("DualDecoder2D", 1))
    assert set(keys(answer, data=other).values()).isdisjoint(keys(answer, data=data_key(found)).values())


def test_a_teacher_that_is_scored_itself_is_not_trained_twice(base):
    alone, teaching = (keys(Answer(base, run)) for run in (Run("3DOrgan", 1), Run("DualDecoder2D", 4)))
    assert alone["3DOrgan/1"] == teaching["3DOrgan/1"]


def test_turns_train_each_run_after_those_it_needs_and_pseudo_labels_in_one_place_at_a_time(plans):
    (on,), (off,) = plans("filters").values()
    runs = {run.key: run for answer in (on, off) for run in planned_runs(answer, (), data="of the set").values()}
    turns = waves(runs.values(), ())
    assert [sorted(str(run.run) for run in turn) for turn in turns] == [
        ["3DCancer/1", "3DOrgan/1"],
        ["DualDecoder2D/1"],  # on: it has the same teachers as off, which waits
        ["DualDecoder2D/1", "DualDecoder2D/2"],
        ["DualDecoder2D/2", "DualDecoder2D/3"],
        ["DualDecoder2D/3", "DualDecoder2D/4"],
        ["DualDecoder2D/4"],
    ]
    there = [run.key for turn in turns[:5] for run in turn]
    assert [[run.run for run in turn] for turn in waves(runs.values(), there)] == [[Run("DualDecoder2D", 4)]]


def test_runs_in_a_circle_are_refused(base):
    circle = override(base, ["trainers.3DOrgan.steps.0.starts_from=DualDecoder2D/1"])
    with pytest.raises(PlanError, match="DualDecoder2D/1 on 3DOrgan/1 on DualDecoder2D/1"):
        planned_runs(Answer(circle, Run("DualDecoder2D", 4)), (), data="of the set")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"score": ("DualDecoder2D/9",)}, "1 to 4"),
        ({"score": ("Duel",)}, "DualDecoder2D"),
        ({"score": ("MAE",), "budget": {"network": "unetr"}}, "does not segment"),
        ({"score": ("MAE",)}, "'MAE'"),  # a plan of U-Nets has none
        ({"set": ("trainers.DualDecoder2D.stepz=1",)}, "steps"),
        ({"budget": {"network": "rnn"}}, "unet"),
    ],
)
def test_a_variant_that_means_nothing_is_named(base, found, fields, said):
    one = variant(**fields)
    with pytest.raises(FlarenetError) as raised:
        answers_of(one, base=base, fingerprint=found, seed=0, changes=one.changes)
    assert "variant 'v'" in str(raised.value) and said in str(raised.value)


def write(tmp_path, variants, **more):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"variants": variants, **more}))
    return str(path)


def test_a_list_of_ones_own(tmp_path):
    name, found = find_list(write(tmp_path, [{"name": "a", "score": ["Joint"], "set": ["seed=1"]}], set=["folds=2"]))
    assert name == "mine" and list_changes(found, found.variants[0], ["seed=2"]) == ("folds=2", "seed=1", "seed=2")
    assert isinstance(found, AblationList)


@pytest.mark.parametrize(
    "variants, error, said",
    [
        ([{"name": "../a", "score": ["Joint"]}], UnsafeError, "../a"),
        ([{"name": "a", "score": ["Joint"]}] * 2, UsageError, "two variants 'a'"),
        ([{"name": "a", "score": []}], UsageError, "variants.0.score"),
        ([{"name": "a", "score": ["Joint"], "heads": "many"}], UsageError, "variants.0.heads"),
        ([{"name": "a", "score": ["Joint"], "epochs": 3}], UsageError, "variants.0.epochs"),
        ([], UsageError, "variants"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, variants, error, said):
    with pytest.raises(error, match=said.replace(".", r"\.")):
        find_list(write(tmp_path, variants))


def test_an_unknown_list_is_answered_with_the_real_ones():
    with pytest.raises(UsageError, match="filters, heads") as caught:
        find_list("head")
    assert caught.value.expected.endswith(", or a file of yours: LIST.json")
    assert caught.value.remedy == "did you mean 'heads'?"
