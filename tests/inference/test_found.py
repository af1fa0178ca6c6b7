"""Which models a root has, and which of them answers where none is named."""

import os
import shutil

import pytest

from flarenet.errors import UsageError
from flarenet.inference.models.about import About
from flarenet.inference.models.found import models_in, newest_model, remarks_on, trained_datasets
from flarenet.planning.plan import TrainerPlan
from flarenet.planning.plan_file import save_plan
from flarenet.planning.runs import Run
from flarenet.schema import save
from tests.inference.test_model_folder import small_plan
from tests.model_files.small import train


def test_the_newest_model_that_segments_is_taken(tmp_path):
    with pytest.raises(UsageError, match="no finished model"):
        newest_model(tmp_path)
    for age, run in enumerate(["A/Restoring/step_1", "A/DualDecoder2D/step_2", "B/3DOrgan/step_1"]):
        folder = tmp_path / "runs" / run
        train(folder, groups=() if "Restoring" in run else ("organ",))
        os.utime(folder / "about.json", (1000 - age, 1000 - age))
    (tmp_path / "runs/A/DualDecoder2D/step_3").mkdir()
    (tmp_path / "runs/A/DualDecoder2D/step_2_backup").mkdir()
    (tmp_path / "runs/A/DualDecoder2D/step_2_backup/about.json").touch()  # a copy that somebody keeps, just made
    assert newest_model(tmp_path) == tmp_path / "runs/A/DualDecoder2D/step_2"
    (tmp_path / "runs/B/3DOrgan/step_1/about.json").write_text("{")  # the newest one now, and no other in its place
    assert newest_model(tmp_path) == tmp_path / "runs/B/3DOrgan/step_1"


def test_a_trainer_stands_for_the_last_step_of_each_finished_fold(tmp_path):
    for run in ("step_9", "step_10", "fold_1/step_10", "fold_2/step_9", "fold_all/step_10", "step_10_backup"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "about.json").touch()
    (tmp_path / "fold_3/step_10").mkdir(parents=True)  # not finished
    assert models_in(tmp_path) == [tmp_path / run for run in ("fold_1/step_10", "step_10")]
    assert models_in(tmp_path / "fold_all") == [tmp_path / "fold_all/step_10"]
    assert models_in(tmp_path / "fold_2") == [tmp_path / "fold_2/step_9"]
    assert models_in(tmp_path / "step_9") == [tmp_path / "step_9"]
    assert models_in(tmp_path / "fold_3") == [tmp_path / "fold_3"]  # and whoever loads it says what is wrong
    (tmp_path / "fold_all/step_11").mkdir()
    (tmp_path / "fold_all/step_11/about.json").touch()
    assert models_in(tmp_path) == [tmp_path / "fold_all/step_11"]


def finished(folder, *, second=0, plan_digest="0"):
    """What tells of a model that a run finished in TRAINER/step_N or TRAINER/fold_K/step_N, without its weights. In its
    plan 3DOrgan and 3DCancer teach DualDecoder2D, whose four steps answer both groups of labels."""
    fold, step = folder.parent, int(folder.name.removeprefix("step_"))
    trainer = (fold.parent if fold.name.startswith("fold_") else fold).name
    plan = small_plan()
    (part,) = plan.trainers.values()
    taught = {"organ": Run("3DOrgan", 1)}
    steps = tuple(part.steps[0].model_copy(update={"teachers": taught if n else {}}) for n in range(4))
    trainers = {"DualDecoder2D": part.model_copy(update={"steps": steps})}
    for name, group in (("3DOrgan", "organ"), ("3DCancer", "cancer")):
        network = part.network.model_copy(update={"kind": "unet", "groups": (group,)})
        trainers[name] = TrainerPlan(
            configuration="2d",
            network=network,
            steps=(part.steps[0].model_copy(update={"groups": (group,)}),),
        )
    folder.mkdir(parents=True)
    save_plan(plan.model_copy(update={"trainers": trainers}), folder / "plan.json")
    (folder / "weights.safetensors").touch()
    digests = {"weights.safetensors": "0", "plan.json": plan_digest}
    save(About(trainer=trainer, step=step, dataset="Toy", flarenet="0", sha256=digests), folder / "about.json")
    os.utime(folder / "about.json", (second, second))
    return folder


def test_a_result_goes_before_newer_teachers_and_earlier_steps_of_its_data_set(tmp_path):
    runs = tmp_path / "runs"
    organ = finished(runs / "A/3DOrgan/step_1", second=1)
    assert newest_model(tmp_path) == organ  # there is no other
    third = finished(runs / "A/DualDecoder2D/step_3", second=2)
    assert newest_model(tmp_path) == third
    last = finished(runs / "A/DualDecoder2D/step_4", second=3)
    finished(runs / "A/3DCancer/step_1", second=4)
    finished(runs / "A/DualDecoder2D/fold_1/step_3", second=5)
    assert newest_model(tmp_path) == last
    other = finished(runs / "B/3DOrgan/step_1", second=6)
    assert newest_model(tmp_path) == newest_model(tmp_path, "B") == other and newest_model(tmp_path, "A") == last
    assert trained_datasets(tmp_path) == ["A", "B"]
    with pytest.raises(UsageError, match="'C'\n  expected: A, B"):
        newest_model(tmp_path, "C")
    (last / "about.json").write_text("{")
    os.utime(last / "about.json", (3, 3))
    assert newest_model(tmp_path, "A") == runs / "A/DualDecoder2D/fold_1/step_3"  # what is damaged does not step in


def test_the_newest_of_several_folds_answers_with_those_that_are_as_far_along(tmp_path):
    trainer = tmp_path / "runs/A/DualDecoder2D"
    first = finished(trainer / "step_4", second=1)
    whole = finished(trainer / "fold_all/step_4", second=2)
    assert newest_model(tmp_path) == whole  # it is no fold beside the others
    for fold, step in ((1, 4), (2, 3), (3, 4)):
        finished(trainer / f"fold_{fold}/step_{step}", second=2 + fold)
    assert newest_model(tmp_path) == trainer
    assert models_in(trainer) == [trainer / "fold_1/step_4", trainer / "fold_3/step_4", first]
    finished(tmp_path / "runs/A/3DOrgan/fold_1/step_1", second=9)  # a teacher
    assert newest_model(tmp_path, "A") == trainer
    trial = finished(trainer / "fold_4/step_4", second=10, plan_digest="1")
    assert newest_model(tmp_path, "A") == trial  # by another plan
    shutil.rmtree(trial)
    (first / "about.json").write_text("{")
    os.utime(first / "about.json", (1, 1))
    assert newest_model(tmp_path, "A") == trainer / "fold_3/step_4"


def test_what_does_not_answer_as_one_might_think_is_said(tmp_path):
    organ, cancer = (finished(tmp_path / name / "step_1").parent for name in ("3DOrgan", "3DCancer"))
    assert remarks_on([organ]) == ["answers 'organ', not 'cancer'"]
    assert remarks_on([cancer / "step_1"]) == ["answers 'cancer', not 'organ'"]
    assert remarks_on([cancer, organ]) == []
    whole = finished(tmp_path / "DualDecoder2D/step_4").parent
    assert remarks_on([whole]) == []
    for run in ("fold_all/step_2", "fold_1/step_2", "fold_2/step_4"):
        finished(whole / run)
    (whole / "fold_3/step_1").mkdir(parents=True)
    assert remarks_on([whole]) == [f"{whole} answers without fold_1, fold_3, where step_4 is not finished"]
    assert remarks_on([whole / "fold_1"]) == [f"{whole / 'fold_1/step_2'} is from step 2 of 4"]
    assert remarks_on([whole / "fold_3", organ]) == []  # it cannot be loaded
