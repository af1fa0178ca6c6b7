import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from flarenet.data.dataset import Dataset
from flarenet.data.labels import HIDDEN
from flarenet.data.store import Store
from flarenet.errors import CasesFailed, RunError
from flarenet.lock import LOCK, locked
from flarenet.planning.fusion import Fusion
from flarenet.planning.pseudo_rules import PseudoRules
from flarenet.planning.runs import Run
from flarenet.preparation.dataset import prepare_dataset
from flarenet.pseudo.report import Report
from flarenet.pseudo.sources import Sources
from flarenet.pseudo.teachers import Teachers
from flarenet.schema import load
from flarenet.trainers.samples import read_samples
from flarenet.whole import sha256_of

from .conftest import (
    CONFIGURATION,
    DOUBTFUL,
    LABELS,
    LIVER,
    RULES,
    SPECK,
    STRAY,
    TUMOR,
    Teacher,
    plan_of,
    step_of,
    truth,
    write_scan,
)


def complete(workspace, cases, teachers, rules=RULES):
    return Teachers(teachers, step_of(rules), plan_of(rules), workspace).complete(cases, "3d")


def maps(store, name):
    return {group: np.asarray(array) for group, array in store.read(name).maps.items()}


def report(store):
    return load(Report, store.folder.parent / "report.json", RunError)


def test_what_no_rule_asks_for_is_taken_as_predicted(blocks, teachers):
    workspace, cases = blocks
    store = complete(workspace, cases, teachers, PseudoRules())
    found = maps(store, "bare")
    organ, cancer = truth() == 1, np.zeros_like(truth())
    organ[SPECK] = 0
    for lesion in (TUMOR, SPECK, STRAY):
        cancer[lesion] = 1
    assert np.array_equal(found["organ"], organ) and np.array_equal(found["cancer"], cancer)
    assert store.record("bare").annotated == (1, 2)
    assert [len(teacher.asked) for teacher in teachers.values()] == [3, 2]  # `lesion`, `bare`, `firm`; not `drawn`


def test_doubt_size_and_host_hide_and_nothing_becomes_background(blocks, teachers):
    workspace, cases = blocks
    found = maps(complete(workspace, cases, teachers), "bare")
    organ, cancer = (truth() == 1).astype(np.uint8), np.zeros_like(truth())
    organ[SPECK], organ[DOUBTFUL] = 0, HIDDEN
    cancer[TUMOR], cancer[SPECK], cancer[STRAY] = 1, HIDDEN, HIDDEN
    assert np.array_equal(found["organ"], organ) and np.array_equal(found["cancer"], cancer)


def test_what_people_drew_never_changes(blocks, teachers):
    workspace, cases = blocks
    store = complete(workspace, cases, teachers)
    drawn, lesion = maps(store, "drawn"), maps(store, "lesion")
    assert np.array_equal(drawn["organ"], np.where(truth() == 2, HIDDEN, truth()))
    assert np.array_equal(drawn["cancer"], truth() == 2) and np.array_equal(lesion["cancer"], truth() == 2)
    assert (lesion["organ"][TUMOR] == HIDDEN).all() and (lesion["organ"][DOUBTFUL] == HIDDEN).all()


def test_what_nobody_annotated_is_filled_by_the_teacher_of_a_group_that_lacks_labels(blocks, teachers):
    """One slice of the liver. In groups that were looked for whole, and so have no teacher, it stays hidden."""
    workspace, cases = blocks
    slice_ = np.s_[2, 2:12, 2:12]
    for case in cases[:2]:
        array = np.where(np.isin(truth(), list(case.annotated)), truth(), 0).astype(np.uint8)
        array[slice_] = 9
        write_scan(case.label, array)
    values = {1: 1, 2: 2, 9: HIDDEN}
    drawn, lesion = (replace(case, values=values) for case in cases[:2])
    dataset = Dataset("Blocks", workspace.raw, LABELS, (drawn, lesion), ())
    assert prepare_dataset(dataset, plan_of(RULES), workspace) == []
    store = complete(workspace, (drawn, lesion), teachers)
    found = maps(store, "lesion")
    assert (found["organ"][slice_] == 1).all() and (found["cancer"][slice_] == HIDDEN).all()
    assert np.count_nonzero(found["cancer"] == HIDDEN) == 100 and np.count_nonzero(found["cancer"] == 1) == 27
    found = maps(store, "drawn")
    assert (found["organ"][slice_] == HIDDEN).all() and (found["cancer"][slice_] == HIDDEN).all()
    assert np.count_nonzero(found["organ"] == HIDDEN) == 100 + 27


def test_the_report_counts_what_was_taken(blocks, teachers):
    workspace, cases = blocks
    found = report(complete(workspace, cases, teachers))
    assert found.hosts == {"tumor": ("liver",)}
    bare = found.cases["bare"]
    liver = 6 * 10 * 10 - 27 - 1
    assert bare.voxels["liver"] == liver and bare.voxels["tumor"] == 27 + 1 + 27
    assert bare.hidden["agreement"] == {"no organ": 0, "liver": 100, "no cancer": 0, "tumor": 0}
    assert (bare.hidden["least_mm3"]["tumor"], bare.hidden["hosts"]["tumor"]) == (1, 27)
    # passes 0 and 2 see the whole liver, pass 1 lacks its top layer of 100 voxels
    one_pair = 2 * (liver - 100) / (2 * liver - 100)
    assert found.scores["bare"] == {"organ": pytest.approx((2 * one_pair + 1) / 3, abs=1e-4), "cancer": 1.0}
    assert found.scores["firm"] == {"organ": 1.0, "cancer": 1.0} and found.scores["drawn"] == {}


def test_held_out_cases_say_nothing_about_hosts(blocks, teachers):
    workspace, cases = blocks
    asked = Teachers(teachers, step_of(RULES), plan_of(RULES), workspace)
    assert report(asked.complete(cases, "3d", held_out={"drawn", "lesion"})).hosts == {}


def test_the_worst_cases_lose_their_pseudo_labels_of_that_group(blocks, teachers):
    workspace, cases = blocks
    store = complete(workspace, cases, teachers, RULES.model_copy(update={"drop_share": 0.34}))
    # one of the three cases that lack organs and one of the two that lack lesions; of equal ones the first by name
    assert {name: fate.dropped for name, fate in report(store).cases.items() if fate.dropped} == {
        "bare": ("organ", "cancer")
    }
    assert (store.record("bare").annotated, store.record("lesion").annotated) == ((), (1, 2))
    assert not any(array.any() for array in maps(store, "bare").values())


def test_where_no_source_sees_a_lesion_no_case_is_the_worst(blocks, teachers):
    workspace, cases = blocks
    teachers[Run("Cancer", 1)] = Teacher("cancer", "1" * 64, knows=False)
    found = report(complete(workspace, cases, teachers, RULES.model_copy(update={"drop_share": 0.5})))
    assert found.scores["bare"].keys() == {"organ"}
    assert not any("cancer" in fate.dropped for fate in found.cases.values())


class Unsteady(Teacher):
    """Sees the lesion of one voxel in the first of three views only."""

    def predict_views(self, volume, views):
        for view, maps in zip(views, super().predict_views(volume, views)):
            if view.scale != 1:
                maps[self.group][SPECK] = 0
            yield maps


def test_a_lesion_that_would_be_hidden_for_its_size_is_nothing_to_differ_on(blocks, teachers):
    workspace, cases = blocks
    teachers[Run("Cancer", 1)] = Unsteady("cancer", "1" * 64)
    assert report(complete(workspace, cases, teachers)).scores["bare"]["cancer"] == 1.0
    # taken as they are, 55 and twice 54 voxels
    found = report(complete(workspace, cases, teachers, RULES.model_copy(update={"least_mm3": 0.0})))
    assert found.scores["bare"]["cancer"] == pytest.approx((2 * (2 * 54 / 109) + 1) / 3, abs=1e-4)


def read_asking(workspace, teachers, rules=RULES, held_out=frozenset()):
    step, plan = step_of(rules), plan_of(rules)
    asked = Teachers(teachers, step, plan, workspace)
    return read_samples(step, plan=plan, configuration="3d", workspace=workspace, held_out=held_out, teachers=asked)


def test_a_case_that_answers_nothing_is_not_trained_on(blocks, teachers):
    workspace, cases = blocks
    train, _ = read_asking(workspace, teachers, RULES.model_copy(update={"drop_share": 0.34}))
    assert [sample.name for sample in train] == ["drawn", "lesion", "firm"]
    assert all(sample.labelled == (1, 2) for sample in train)  # by hand or by teachers


def test_where_only_held_out_cases_keep_a_label_it_is_said_which_rule_took_the_others(blocks, teachers):
    workspace, cases = blocks
    with pytest.raises(RunError) as caught:
        read_asking(workspace, teachers, RULES.model_copy(update={"drop_share": 1.0}), frozenset({"drawn", "lesion"}))
    assert caught.value.found == "2 cases without annotations, whose pseudo labels are dropped; 2 held out"
    assert caught.value.remedy.endswith("or a lower pseudo.drop_share")


def test_what_is_kept_of_a_teacher_is_held_while_it_is_asked(blocks, teachers):
    workspace, cases = blocks
    held = []

    class Watched(Teacher):
        def predict_views(self, volume, views):
            held.append(sorted(path.parent.name.rpartition("-")[0] for path in workspace.root.glob("pseudo/*/*/.lock")))
            return super().predict_views(volume, views)

    read_asking(workspace, {**teachers, Run("Cancer", 1): Watched("cancer")})
    assert held == [["Teacher-cancer", "Teacher-organ"]] * 2  # for `bare` and `firm`
    assert not list(workspace.root.glob("pseudo/*/*/.lock"))


def test_who_waits_for_another_run_s_answers_is_told_whose(blocks, teachers, monkeypatch, capsys):
    """Of two teachers one is asked by a run on another host, which ends once it is waited for."""
    workspace, cases = blocks
    ended = []

    @contextmanager
    def with_another(folder, *, wait):
        def tell(line):
            wait(line)
            (folder / LOCK).unlink()
            ended.append(folder)

        if "Teacher-organ" in folder.name:
            folder.mkdir(parents=True)
            (folder / LOCK).write_text("4711\nanother-host\n")
        with locked(folder, wait=tell):
            yield

    monkeypatch.setattr("flarenet.lock._PATIENCE_S", 0.01)
    monkeypatch.setattr("flarenet.pseudo.sources.locked", with_another)
    read_asking(workspace, teachers)
    [folder] = ended
    assert f"{folder} is in use by process 4711 on another-host: waiting until it ends" in capsys.readouterr().err


def test_a_case_that_is_prepared_anew_while_teachers_are_asked_is_named(blocks, teachers):
    workspace, cases = blocks
    store = Store(workspace.store("3d"))

    class Slow(Teacher):
        def predict_views(self, volume, views):
            grid = store.record("drawn").grid
            image = np.zeros(grid.shape, dtype=np.int16)
            store.write("drawn", annotated={1}, key="new", grid=grid, original=grid, image=image, maps={})
            return super().predict_views(volume, views)

    with pytest.raises(RunError, match="1 prepared again in the meantime: drawn") as caught:
        read_asking(workspace, {**teachers, Run("Cancer", 1): Slow("cancer")})
    assert caught.value.remedy.startswith("start the command again")


def test_only_what_rules_or_teachers_change_is_made_again(blocks, teachers):
    workspace, cases = blocks
    first = complete(workspace, cases, teachers)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.b2nd")}
    complete(workspace, cases, teachers)
    assert stamps == {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.b2nd")}
    asked = [len(teacher.asked) for teacher in teachers.values()]
    assert asked == [9, 6]

    other = complete(workspace, cases, teachers, RULES.model_copy(update={"agreement": 0.5}))
    assert other.folder != first.folder and (maps(other, "bare")["organ"][DOUBTFUL] == 1).all()
    assert [len(teacher.asked) for teacher in teachers.values()] == asked

    complete(workspace, cases, teachers, RULES.model_copy(update={"passes": 4}))
    assert [len(teacher.asked) for teacher in teachers.values()] == [12, 8]

    teachers[Run("Cancer", 1)] = Teacher("cancer", "2" * 64)
    complete(workspace, cases, teachers)
    assert [len(teacher.asked) for teacher in teachers.values()] == [12, 6]


def test_scans_are_hashed_only_where_a_teacher_is_asked_or_what_it_said_is_from_before(blocks, teachers, monkeypatch):
    """`drawn` lacks nothing; of the others, what was predicted just now is there."""
    workspace, cases = blocks
    hashed = []

    def noted(path):
        hashed.append(path.name.removesuffix("_0000.nii.gz"))
        return sha256_of(path)

    monkeypatch.setattr("flarenet.pseudo.sources.sha256_of", noted)
    store = complete(workspace, cases, teachers)
    assert hashed == ["lesion", "bare", "firm"]
    complete(workspace, cases, teachers, RULES.model_copy(update={"agreement": 0.5}))
    assert hashed == ["lesion", "bare", "firm"] * 2
    complete(workspace, cases, teachers)
    assert len(hashed) == 6
    # training draws patches around voxels of completed maps, never of what one teacher says
    assert list(store.folder.glob("bare/places_*")) and not list(workspace.root.glob("pseudo/*/*/pass_*/*/places_*"))


def test_a_flipped_bit_of_completed_maps_has_them_made_again(blocks, teachers):
    workspace, cases = blocks
    path = complete(workspace, cases, teachers).folder / "bare" / "map_cancer.b2nd"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    complete(workspace, cases, teachers)
    assert path.read_bytes() == whole
    assert [len(teacher.asked) for teacher in teachers.values()] == [9, 6]  # of what they had said, nothing is lost


def test_a_process_that_finds_all_made_takes_away_nothing_that_another_is_writing(blocks, teachers):
    workspace, cases = blocks
    written = complete(workspace, cases, teachers).folder.parent / "report.json"
    stamp, others = written.stat().st_mtime_ns, written.with_name(".0123456789ab.tmp.report.json")
    others.write_text("half of it")
    complete(workspace, cases, teachers)
    assert others.exists() and written.stat().st_mtime_ns == stamp
    written.write_text("damaged")
    complete(workspace, cases, teachers)
    assert not others.exists() and report(complete(workspace, cases, teachers)).cases.keys() == {c.name for c in cases}


def test_a_scan_that_was_replaced_is_predicted_again(blocks, teachers):
    """`firm` in the place of `bare`, whose top layer the second pass does not see."""
    workspace, cases = blocks
    bare, firm = (next(case for case in cases if case.name == name) for name in ("bare", "firm"))
    sources = Sources(teachers, step_of(RULES), workspace)

    def second_pass():
        sources.predict(bare, ["organ"])
        return np.asarray(sources.stores(["organ"])["organ"][1].read("bare").maps["organ"])

    assert not second_pass()[DOUBTFUL].any() and not second_pass()[DOUBTFUL].any()
    assert len(teachers[Run("Organ", 1)].asked) == 3
    shutil.copyfile(firm.image, bare.image)
    assert second_pass()[DOUBTFUL].all() and len(teachers[Run("Organ", 1)].asked) == 6


def predicting(**fields):
    return {"configuration": CONFIGURATION.model_copy(update=fields)}


@pytest.mark.parametrize(
    "how, again",
    [
        (predicting(overlap=0.5), True),
        (predicting(inference_spacing_mm=(2.0, 1.0, 1.0)), True),
        ({"fusion": Fusion(rule="probability")}, True),
        ({"fusion": Fusion(flips=True)}, True),
        ({"fusion": Fusion(largest=("liver",))}, False),  # of the whole label map, which no teacher gives
        (predicting(why={"overlap": "set by hand"}), False),
    ],
)
def test_the_same_weights_are_asked_again_where_they_predict_otherwise(blocks, teachers, how, again):
    workspace, cases = blocks
    before = complete(workspace, cases, teachers)
    teachers[Run("Organ", 1)] = Teacher("organ", **how)
    after = complete(workspace, cases, teachers)
    assert (len(teachers[Run("Organ", 1)].asked), len(teachers[Run("Cancer", 1)].asked)) == (9 if again else 0, 6)
    assert (after.folder != before.folder) == again
    stores = list(workspace.root.glob("pseudo/Blocks/Teacher-organ-*"))
    assert len(stores) == 1 + again  # who comes back to the first finds its answers


def test_an_earlier_round_is_a_source_of_its_own(blocks, teachers):
    workspace, cases = blocks
    teachers[Run("Student", 1)] = Teacher("organ", "3" * 64, knows=False)
    rules = PseudoRules(earlier={"organ": Run("Student", 1)}, agreement=1.0, hosts={"tumor": ("liver",)})
    found = maps(complete(workspace, cases, teachers, rules), "bare")
    assert (found["organ"][LIVER] != 1).all() and (found["organ"] == HIDDEN).sum() == 6 * 10 * 10 - 28


def test_a_damaged_map_is_predicted_again(blocks, teachers):
    workspace, cases = blocks
    first = complete(workspace, cases, teachers)
    before = maps(first, "bare")
    damaged = next(workspace.root.glob("pseudo/Blocks/Teacher-organ-*/pass_1/bare/map_organ.b2nd"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    again = complete(workspace, cases, teachers, RULES.model_copy(update={"least_mm3": 9.0}))
    assert len(teachers[Run("Organ", 1)].asked) == 10
    assert all(np.array_equal(before[group], array) for group, array in maps(again, "bare").items())


def test_a_scan_that_is_gone_is_named_and_the_others_are_done(blocks, teachers):
    workspace, cases = blocks
    next(case for case in cases if case.name == "bare").image.write_bytes(b"no scan")
    with pytest.raises(CasesFailed, match="1 of 4 cases") as error:
        complete(workspace, cases, teachers)
    assert "bare" in str(error.value)
    names = Store(next(workspace.root.glob("pseudo/Blocks/Teacher-organ-*/pass_2"))).names()
    assert names == ["firm", "lesion"]
