"""Layouts: what each is taken for, which files make a case, and how tables of several sources become one.

No layout opens an image, so the files are empty here; tests/cli/test_plan_sources.py plans real ones.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flarenet.data.dataset_file import read_dataset
from flarenet.data.labels import HIDDEN
from flarenet.data.layouts import LAYOUTS, read_source, source_findings
from flarenet.data.layouts.flare import FLARE23
from flarenet.data.layouts.merge import LabelNames, check_names, merge, write_dataset_file
from flarenet.data.reading import Reading
from flarenet.data.settled import save_settled
from flarenet.errors import DatasetError, UnsafeError
from flarenet.schema import load


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def write(folder, **content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def nnunet(folder, labels, *names, **more):
    """A set with dataset.json; `more` is added to each case's entry."""
    table = {}
    for name in names:
        image, label = f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"
        touch(folder, image, label)
        table[name] = {"images": [image], "label": label, **more}
    named = {"background": 0, **labels}
    return write(
        folder, channel_names={"0": "CT"}, labels=named, numTraining=len(names), file_ending=".nii.gz", dataset=table
    )


def decathlon(folder, labels=("background", "liver", "cancer")):
    touch(folder, "imagesTr/liver_1.nii.gz", "imagesTr/._liver_1.nii.gz", "labelsTr/liver_1.nii.gz")
    touch(folder, "imagesTs/liver_2.nii.gz")
    return write(
        folder,
        name="Liver",
        tensorImageSize="3D",
        modality={"0": "CT"},
        labels={str(value): name for value, name in enumerate(labels)},
        numTraining=1,
        numTest=1,
        training=[{"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}],
        test=["./imagesTs/liver_2.nii.gz"],
    )


def flare(folder):
    images = [f"imagesTr2200/FLARE23_000{n}_0000.nii.gz" for n in (1, 2, 3)]
    touch(folder, *images, "labelsTr2200/FLARE23_0001.nii.gz", "labelsTr2200/FLARE23_0002.nii.gz")
    touch(folder, "labelsTr2200/20230507-fix/FLARE23_0002.nii.gz")
    touch(folder, "unlabeledTr1800/FLARE23_2201_0000.nii.gz", "unlabeledTr1800/FLARE23_2202.nii.gz")
    touch(folder, "validation/FLARE23Ts_0001_0000.nii.gz", "validation/FLARE23Ts_0002_0000.nii.gz")
    touch(folder, "val-gt-50cases-for-sanity-check/FLARE23Ts_0001.nii.gz")
    touch(folder, "aladdin5-pseudo-labels-FLARE23/FLARE23_0003.nii.gz", "labelsTu1800/FLARE23_2201.nii.gz")
    return touch(folder, "notes/read.me")


def files(cases, folder):
    """{name: (image, label)} with paths relative to `folder`."""
    return {
        case.name: tuple(p and p.relative_to(folder).as_posix() for p in (case.image, case.label)) for case in cases
    }


def merged(tmp_path, *folders, **label_map):
    """The Dataset of several folders, by its dataset.json."""
    sources = [read_source(folder) for folder in folders]
    content = merge(sources, tmp_path / "raw" / "M", LabelNames(**label_map))
    write_dataset_file(content, tmp_path / "raw" / "M")
    return read_dataset(tmp_path / "raw" / "M", sources=folders)


# one layout each


def test_dataset_json_of_nnunet(tmp_path):
    source = read_source(nnunet(tmp_path / "A", {"liver": 2, "tumor": 4}, "a", "b", annotated=["liver"]))
    assert source.layout == "nnU-Net v2" and source.labels.names == ("background", "liver", "tumor")
    assert [case.annotated for case in source.cases] == [("liver",), ("liver",)]
    assert source.cases[0].values == {2: "liver", 4: "tumor"}


def test_folders_only(tmp_path):
    folder = touch(tmp_path / "A", "imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz")
    touch(folder, "imagesTs/c_0000.nii.gz", "imagesTr/._a_0000.nii.gz")
    source = read_source(folder)
    assert source.labels is None
    assert files(source.cases, folder) == {
        "a": ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
        "b": ("imagesTr/b_0000.nii.gz", None),
    }
    assert files(source.test, folder) == {"c": ("imagesTs/c_0000.nii.gz", None)}
    touch(folder, "labelsTr/x.nii.gz")
    with pytest.raises(DatasetError, match="x.nii.gz without an image"):
        read_source(folder)


def test_a_further_channel_is_no_case_of_its_own(tmp_path):
    """Nor does a number at the end of a case's name make it a channel."""
    folder = touch(tmp_path / "A", "imagesTr/pr_00_0000.nii.gz", "imagesTr/pr_0001.nii.gz", "labelsTr/pr_00.nii.gz")
    assert [case.name for case in read_source(folder).cases] == ["pr_00", "pr_0001"]
    touch(folder, "imagesTr/pr_00_0001.nii.gz")
    with pytest.raises(DatasetError, match="pr_00_0001.nii.gz, a further channel"):
        read_source(folder)


def test_decathlon(tmp_path):
    folder = decathlon(tmp_path / "Task03")
    source = read_source(folder)
    assert source.labels.groups == {"organ": (1,), "cancer": (2,)} and source.values == {1: "liver", 2: "cancer"}
    assert files(source.cases, folder) == {"liver_1": ("imagesTr/liver_1.nii.gz", "labelsTr/liver_1.nii.gz")}
    assert source.cases[0].annotated == ("liver", "cancer")
    assert files(source.test, folder) == {"liver_2": ("imagesTs/liver_2.nii.gz", None)}


def test_nnunet_v1_lists_images_without_their_channel(tmp_path):
    folder = decathlon(tmp_path / "Task03")
    (folder / "imagesTr/liver_1.nii.gz").rename(folder / "imagesTr/liver_1_0000.nii.gz")
    assert files(read_source(folder).cases, folder) == {
        "liver_1": ("imagesTr/liver_1_0000.nii.gz", "labelsTr/liver_1.nii.gz")
    }


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        ("modality", {"0": "T1", "1": "T2"}, DatasetError, "several channels"),
        ("labels", {"background": 0}, DatasetError, "key 'labels.background'"),
        ("labels", {"x": "liver"}, DatasetError, "values before names"),
        ("labels", {"0": "background", "1": "liver", "2": "liver"}, DatasetError, "different names"),
        ("training", [{"image": "../x.nii.gz", "label": "y"}], UnsafeError, "training.0"),
        ("training", [{"image": "x.nii.gz"}], DatasetError, "training.0.label"),
    ],
)
def test_a_decathlon_file_that_cannot_be_used_is_named_with_its_key(tmp_path, key, value, error, words):
    folder = decathlon(tmp_path / "Task03")
    content = json.loads((folder / "dataset.json").read_text())
    write(folder, **{**content, key: value})
    with pytest.raises(error, match=words):
        read_source(folder)


def test_cases_that_lie_in_folders_of_their_own_are_named_by_them(tmp_path):
    """As KiTS lays them out; the Decathlon itself has one folder, where names tell."""
    folders = [f"case_0000{n}" for n in (0, 1, 2)]
    folder = touch(tmp_path / "KiTS", *(f"{name}/{part}.nii.gz" for name in folders for part in ("imaging", "drawn")))
    listed = [{"image": f"./{name}/imaging.nii.gz", "label": f"./{name}/drawn.nii.gz"} for name in folders[:2]]
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "kidney"}, "training": listed}
    write(folder, **content, test=["./case_00002/imaging.nii.gz"])
    dataset = merged(tmp_path, folder)
    assert [(case.name, case.image) for case in (*dataset.cases, *dataset.test)] == [
        (f"{name}_imaging", folder / name / "imaging.nii.gz") for name in folders
    ]
    write(folder, **content, test=["./case_00000/imaging.nii.gz"])
    with pytest.raises(DatasetError, match="both called case_00000_imaging"):
        merged(tmp_path / "again", folder)


@pytest.mark.parametrize("layout", ["nnU-Net v2", "Medical Segmentation Decathlon"])
def test_files_elsewhere_are_taken_where_a_person_allows_it(tmp_path, layout):
    outside, folder = tmp_path / "outside" / "a_0000.nii.gz", tmp_path / "A"
    touch(tmp_path, "outside/a_0000.nii.gz")
    if layout == "nnU-Net v2":
        nnunet(folder, {"liver": 1}, "a")
        content = json.loads((folder / "dataset.json").read_text())
        content["dataset"]["a"]["images"] = [str(outside)]
    else:
        content = json.loads((decathlon(folder) / "dataset.json").read_text())
        content["training"][0]["image"] = "../outside/a_0000.nii.gz"
    write(folder, **content)
    with pytest.raises(UnsafeError, match="--allow-external"):
        read_source(folder)
    source = read_source(folder, Reading(allow_external=True))
    assert source.layout == layout and source.cases[0].image.resolve() == outside.resolve()
    entry = merge([source], tmp_path / "M")["dataset"]["a"]
    assert Path(entry["images"][0]).resolve() == outside.resolve()


def test_two_label_files_of_one_case_are_refused_in_the_distribution_of_flare23_too(tmp_path):
    folder = touch(flare(tmp_path / "F"), "labelsTr/FLARE23_0001.nii.gz")
    with pytest.raises(DatasetError, match="one file for each case"):
        read_source(folder)


def test_the_distribution_of_flare23(tmp_path):
    folder = flare(tmp_path / "MICCAI-FLARE23")
    source = read_source(folder)
    assert source.labels is FLARE23
    assert files(source.cases, folder) == {
        "FLARE23_0001": ("imagesTr2200/FLARE23_0001_0000.nii.gz", "labelsTr2200/FLARE23_0001.nii.gz"),
        "FLARE23_0002": ("imagesTr2200/FLARE23_0002_0000.nii.gz", "labelsTr2200/20230507-fix/FLARE23_0002.nii.gz"),
        "FLARE23_0003": ("imagesTr2200/FLARE23_0003_0000.nii.gz", None),
        "FLARE23_2201": ("unlabeledTr1800/FLARE23_2201_0000.nii.gz", None),
        "FLARE23_2202": ("unlabeledTr1800/FLARE23_2202.nii.gz", None),
    }
    assert {case.annotated for case in source.cases} == {None}
    assert [(case.name, case.label is None) for case in source.test] == [
        ("FLARE23Ts_0001", False),
        ("FLARE23Ts_0002", True),
    ]
    assert source.notes == (
        "ignored, pseudo labels: aladdin5-pseudo-labels-FLARE23",
        "ignored, pseudo labels: labelsTu1800",
        "ignored, unknown: notes",
        "1 corrected labels taken: labelsTr2200/20230507-fix",
        "used as unlabelled, since they have no label file: 1 of the labelled images' folder: FLARE23_0003",
    )


@pytest.mark.parametrize(
    "name", ["pseudo-labelsTr2200", "imagesTr2200-pseudo-labels", "labelsTr_pseudo", "nnunet_predictions", "labelsTu"]
)
def test_pseudo_labels_are_never_taken_for_labels(tmp_path, name):
    folder = touch(tmp_path / "F", "imagesTr2200/a_0000.nii.gz", f"{name}/a.nii.gz")
    [case] = read_source(folder).cases
    assert case.label is None


@pytest.mark.parametrize("name", ["unlabelTr1800", "unlabeledTr1800", "FLARE_UnlabeledCase1-1000", "imagesTu1800"])
def test_unlabelled_images_are_known_by_several_names(tmp_path, name):
    [case] = read_source(touch(tmp_path / "F", f"{name}/a_0000.nii.gz")).cases
    assert (case.name, case.label) == ("a", None)


@pytest.mark.parametrize("name", ["scans", "unlabeledTr1800", "imagesTr"])
def test_a_folder_of_scans_alone_holds_unlabelled_cases(tmp_path, name):
    folder = touch(tmp_path / name, "a_0000.nii.gz", "b.nii", "._b.nii", "list.csv")
    source = read_source(folder)
    assert (source.layout, source.labels, source.test) == ("unlabelled scans", None, ())
    assert files(source.cases, folder) == {"a": ("a_0000.nii.gz", None), "b": ("b.nii", None)}


@pytest.mark.parametrize("name", ["labelsTr", "pseudo-labels", "val_gt"])
def test_label_maps_are_not_taken_for_scans(tmp_path, name):
    with pytest.raises(DatasetError, match="one of these layouts"):
        read_source(touch(tmp_path / name, "a.nii.gz"))


def test_scans_with_something_beside_them_are_not_taken_for_scans_alone(tmp_path):
    folders = touch(tmp_path / "A", "a.nii.gz", "masks/a.nii.gz"), touch(write(tmp_path / "B"), "b.nii.gz")
    for folder in folders:
        with pytest.raises(DatasetError, match="one of these layouts"):
            read_source(folder)


def test_a_label_without_image_is_an_error_of_flare_too(tmp_path):
    folder = touch(flare(tmp_path / "F"), "labelsTr2200/FLARE23_0009.nii.gz")
    with pytest.raises(DatasetError, match="FLARE23_0009.nii.gz without an image"):
        read_source(folder)


def test_an_unknown_folder_lists_what_every_layout_expects_and_what_is_there(tmp_path):
    touch(tmp_path / "X", "scans/a.nii.gz", "readme.txt")
    with pytest.raises(DatasetError) as caught:
        read_source(tmp_path / "X")
    assert caught.value.found == "readme.txt, scans/"
    assert all(layout.name in caught.value.expected and layout.expects in caught.value.expected for layout in LAYOUTS)
    with pytest.raises(DatasetError, match="no such folder"):
        read_source(tmp_path / "none")


def test_all_that_keeps_a_folder_from_being_read_is_found(tmp_path):
    """Of the set as a whole, for a source is taken whole; a case's path that leads out is refused as unsafe."""
    folder = nnunet(tmp_path / "A", {"liver": 1}, "a")
    assert source_findings(folder) == ()
    content = json.loads((folder / "dataset.json").read_text())
    content["dataset"]["a"]["label"] = "/a.nii.gz"
    write(folder, **content | {"channel_names": {"0": "CT", "1": "PET"}})
    found = source_findings(folder)
    assert [(f.case, f.file_name, f.exit_code) for f in found] == [
        ("", "A/dataset.json: key 'channel_names'", 4),
        ("", "A/dataset.json: key 'dataset.a.label'", 7),
    ]
    bare = decathlon(tmp_path / "Task03", ("background",))
    for other in (bare, touch(tmp_path / "X", "readme.txt"), tmp_path / "none"):
        [finding] = source_findings(other)
        assert finding.severity == "refuse" and finding.exit_code == 4
        with pytest.raises(DatasetError, match=re.escape(finding.found)):
            read_source(other)


# several made one


def test_one_source_keeps_its_table_and_needs_no_values(tmp_path):
    folder = flare(tmp_path / "F")
    dataset = merged(tmp_path, folder)
    assert dataset.labels == FLARE23
    assert {case.name: (case.declared, case.values, len(case.annotated)) for case in dataset.cases[:3]} == {
        "FLARE23_0001": (False, {}, 14),
        "FLARE23_0002": (False, {}, 14),
        "FLARE23_0003": (True, {}, 0),
    }
    assert dataset.cases[0].image == folder / "imagesTr2200/FLARE23_0001_0000.nii.gz"


def test_labels_are_matched_by_name_and_keep_their_files_values(tmp_path):
    one = nnunet(tmp_path / "A", {"liver": 1, "spleen": 2}, "a")
    other = nnunet(tmp_path / "B", {"left_kidney": 1, "Liver": 6}, "b", annotated=["Liver"])
    dataset = merged(tmp_path, one, other)
    assert dataset.labels.names == ("background", "liver", "spleen", "left_kidney")
    a, b = dataset.cases
    assert (a.values, a.declared, a.annotated) == ({1: 1, 2: 2}, False, {1, 2})
    assert (b.values, b.declared, b.annotated) == ({1: 3, 6: 1}, True, {1})


def test_groups_and_tolerances_come_along(tmp_path):
    dataset = merged(tmp_path, flare(tmp_path / "F"), decathlon(tmp_path / "Task03"))
    assert dataset.labels.names[14:] == ("tumor", "cancer")
    assert dataset.labels.groups == {"organ": tuple(range(1, 14)), "cancer": (14, 15)}
    assert dataset.labels.tolerance_of(1) == 5.0
    [case] = [case for case in dataset.cases if case.name == "liver_1"]
    assert (case.annotated, case.declared, case.values) == ({1, 15}, True, {1: 1, 2: 15})


def test_lesions_are_drawn_last_whatever_source_comes_first(tmp_path):
    """The lung's tumours alone, and a kidney with its own: organs first, as where the kidney's set comes first."""
    lung = decathlon(tmp_path / "Lung", ("background", "cancer"))
    kits = nnunet(tmp_path / "KiTS", {"kidney": 1, "tumor": 2}, "k")
    for number, folders in enumerate([(lung, kits), (kits, lung)]):
        labels = merged(tmp_path / str(number), *folders).labels
        named = {group: set(labels.names_of(values)) for group, values in labels.groups.items()}
        assert list(named.items()) == [("organ", {"kidney"}), ("cancer", {"tumor", "cancer"})]


def test_groups_keep_the_order_of_every_source_or_are_refused(tmp_path):
    """A vessel is drawn over organs by one source; the other, which comes first, has no organ."""
    one = nnunet(tmp_path / "A", {"vein": 1}, "a")
    other, turned = (nnunet(tmp_path / name, {"liver": 1, "vein": 2, "cyst": 3}, name) for name in "BC")
    for folder, groups in (
        (one, {"vessel": [1]}),
        (other, {"organ": [1], "vessel": [2], "cysts": [3]}),
        (turned, {"cysts": [3], "organ": [1], "vessel": [2]}),
    ):
        write(folder, **json.loads((folder / "dataset.json").read_text()), groups=groups)
    assert list(merged(tmp_path, one, other).labels.groups) == ["organ", "vessel", "cysts"]
    with pytest.raises(DatasetError, match="groups cysts, organ, vessel drawn over each other"):
        merged(tmp_path / "again", one, other, turned)
    table = {"labels": {"liver": 1, "vein": 2, "cyst": 3}, "groups": {"organ": (1, 3), "vessel": (2,)}}
    assert list(merged(tmp_path / "told", one, other, turned, table=table).labels.groups) == ["organ", "vessel"]


def test_a_source_of_scans_alone_brings_no_labels_and_needs_none(tmp_path):
    """Be it a folder of images without a table, or unlabelled ones as FLARE23's, or a set with its own, or files."""
    one = nnunet(tmp_path / "A", {"liver": 1, "tumor": 2}, "a")
    scans, flat = touch(tmp_path / "Scans", "imagesTr/x_0000.nii.gz"), touch(tmp_path / "Flat", "f.nii.gz", "x.nii.gz")
    more = touch(tmp_path / "More", "unlabeledTr/y_0000.nii.gz")
    own = nnunet(tmp_path / "Own", {"spleen": 4}, "z")
    (own / "labelsTr/z.nii.gz").unlink()
    content = json.loads((own / "dataset.json").read_text())
    write(own, **content | {"dataset": {"z": {"images": ["imagesTr/z_0000.nii.gz"]}}})
    dataset = merged(tmp_path, scans, one, more, own, flat)
    assert dataset.labels.names == ("background", "liver", "tumor")
    labelled = {case.name: case.label is not None for case in dataset.cases}
    assert labelled == {"x": False, "a": True, "y": False, "z": False, "f": False, "Flat_x": False}
    merged(tmp_path / "told", scans, one, more, table={"labels": {"liver": 1, "tumor": 2}})
    assert merged(tmp_path / "alone", more).labels == FLARE23
    with pytest.raises(DatasetError, match="no label file in any source"):
        merged(tmp_path / "none", scans)


def test_a_map_renames_and_leaves_out(tmp_path):
    """The tumour of a source that is left out becomes background; a case searched for nothing else is unlabelled."""
    one = decathlon(tmp_path / "Task03")
    other = nnunet(tmp_path / "KiTS", {"kidney_right": 1, "mass": 2}, "k", annotated=["mass"])
    table = {"labels": {"liver": 3, "tumor": 7, "right kidney": 9}, "groups": {"all": ("liver", 9, "tumor")}}
    sources = {"Task03": {"cancer": "tumor"}, "KiTS": {"kidney_right": "Right_Kidney", "mass": None}}
    dataset = merged(tmp_path, one, other, table=table, sources=sources)
    assert dataset.labels.names == ("background", "liver", "tumor", "right kidney")
    assert dataset.labels.groups == {"all": (1, 3, 2)}
    liver, kidney = dataset.cases
    assert (liver.values, liver.annotated) == ({1: 1, 2: 2}, {1, 2})
    assert kidney.label is None
    sources["KiTS"]["mass"] = "tumor"
    kidney = merged(tmp_path / "again", one, other, table=table, sources=sources).cases[1]
    assert (kidney.values, kidney.annotated) == ({1: 3, 2: 2}, {2})
    sources["KiTS"]["mass"] = "background"
    assert merged(tmp_path / "said", one, other, table=table, sources=sources).cases[1].label is None
    sources["KiTS"] = {"kidney_right": "right kidney", "mass": None}
    other = nnunet(tmp_path / "KiTS", {"kidney_right": 1, "mass": 2}, "k")
    kidney = merged(tmp_path / "more", one, other, table=table, sources=sources).cases[1]
    assert (kidney.values, kidney.declared) == ({1: 3, 2: 0}, False)


def test_a_source_without_names_takes_those_of_the_map(tmp_path):
    folder = touch(tmp_path / "A", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(DatasetError, match="values without names"):
        merged(tmp_path, folder)
    table = {"labels": {"liver": 1, "spleen": 2}}
    [case] = merged(tmp_path, folder, table=table).cases
    assert case.values == {}
    for number, nothing in enumerate((None, "Background")):
        sources = {"A": {"6": "spleen", "8": nothing}}
        [case] = merged(tmp_path / f"again{number}", folder, table=table, sources=sources).cases
        assert case.values == {6: 2, 8: 0}
    named = merged(tmp_path / "named", folder, sources={"A": {"0": "background", "6": "spleen"}})
    assert named.labels.names == ("background", "spleen") and named.cases[0].values == {0: 0, 6: 1}


def test_a_later_case_of_one_name_gets_that_of_its_source(tmp_path):
    """The cases of A are called as they were without B: a run that learned from them knows them by their names."""
    one, other, third = (
        nnunet(tmp_path / name, {"liver": 1}, *cases) for name, cases in (("A", "xy"), ("B", "Xz"), ("C", ("x", "B_x")))
    )
    assert [case.name for case in merged(tmp_path, one).cases] == ["x", "y"]
    assert [case.name for case in merged(tmp_path / "two", one, other).cases] == ["x", "y", "B_X", "z"]
    three = merged(tmp_path / "three", one, other, third).cases
    assert [case.name for case in three] == ["x", "y", "B_X", "z", "C_x", "C_B_x"]


def test_a_name_that_another_case_gets_from_its_source_is_refused(tmp_path):
    one, other = nnunet(tmp_path / "A", {"liver": 1}, "x"), nnunet(tmp_path / "B", {"liver": 1}, "x", "B_x")
    with pytest.raises(DatasetError, match="both called B_x"):
        merged(tmp_path, one, other)


def test_two_labels_may_be_mapped_to_one(tmp_path):
    dataset = merged(tmp_path, decathlon(tmp_path / "Task03"), sources={"Task03": {"cancer": "liver"}})
    assert dataset.labels.names == ("background", "liver")
    assert (dataset.cases[0].annotated, dataset.cases[0].values) == ({1}, {1: 1, 2: 1})


@pytest.mark.parametrize(
    ("label_map", "words"),
    [
        ({"table": {"labels": {"liver": 1}}}, "cancer: not in the table"),
        ({"sources": {"Task3": {}}}, "did you mean 'Task03'"),
        ({"sources": {"Task03": {"cancr": "tumor"}}}, "did you mean 'cancer'"),
        ({"table": {"labels": {"liver": 1, "cancer": 1}}}, "a different value for every label"),
        ({"table": {"labels": {"liver": 1, "cancer": 2}}, "sources": {"Task03": {"cancer": "tumor"}}}, "tumor: not in"),
    ],
)
def test_a_map_that_does_not_fit_is_an_error(tmp_path, label_map, words):
    with pytest.raises(DatasetError, match=words):
        merged(tmp_path, decathlon(tmp_path / "Task03"), **label_map)


def test_sources_that_cannot_be_told_apart_or_are_of_different_kinds_are_refused(tmp_path):
    one, other = (nnunet(tmp_path / parent / "S", {"liver": 1}, "a") for parent in "ab")
    with pytest.raises(DatasetError, match="2 folders called S"):
        merged(tmp_path, one, other)
    content = json.loads((one / "dataset.json").read_text())
    write(one, **{**content, "channel_names": {"0": "MR"}})
    with pytest.raises(DatasetError, match="images of one kind"):
        merged(tmp_path, one, decathlon(tmp_path / "Task03"))


def test_a_source_that_does_not_say_what_its_images_are_takes_the_word_of_the_others(tmp_path):
    labelled, scans = decathlon(tmp_path / "Task05"), touch(tmp_path / "scans", "imagesTr/b_0000.nii.gz")
    content = json.loads((labelled / "dataset.json").read_text())
    write(labelled, **{**content, "modality": {"0": "MRI"}})
    assert merged(tmp_path, labelled, scans).modality == "MRI"
    other = nnunet(tmp_path / "B", {"liver": 1}, "a")
    write(other, **{**json.loads((other / "dataset.json").read_text()), "channel_names": {"0": "mr"}})
    assert merged(tmp_path / "both", scans, labelled, other).modality == "mr"
    alone = touch(tmp_path / "C", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    table = {"labels": {"liver": 1}}
    assert merged(tmp_path / "alone", alone, table=table).modality == "CT"
    assert merged(tmp_path / "stated", alone, table=table, modality="MR").modality == "MR"
    with pytest.raises(DatasetError, match="found: Task03 CT, --labels MR"):
        merged(tmp_path / "wrong", decathlon(tmp_path / "Task03"), scans, modality="MR")


def test_files_of_the_set_s_own_folder_are_named_by_relative_paths(tmp_path):
    folder = flare(tmp_path / "raw" / "M")
    content = merge([read_source(folder)], folder)
    assert content["dataset"]["FLARE23_0001"]["images"] == ["imagesTr2200/FLARE23_0001_0000.nii.gz"]
    write_dataset_file(content, folder)
    assert len(read_dataset(folder).cases) == 5


def test_another_dataset_json_is_not_overwritten(tmp_path):
    content = merge([read_source(decathlon(tmp_path / "Task03"))], tmp_path / "M")
    path = write_dataset_file(content, tmp_path / "M")
    first = path.read_text()
    write_dataset_file(content, tmp_path / "M")
    path.write_text("{}")
    with pytest.raises(DatasetError, match="--replace"):
        write_dataset_file(content, tmp_path / "M")
    assert path.read_text() == "{}"
    write_dataset_file(content, tmp_path / "M", replace=True)
    assert path.read_text() == first and Path(tmp_path / "M" / "dataset.previous.json").read_text() == "{}"


def test_a_planned_case_keeps_its_name(tmp_path):
    """B's case_2 is planned by that name; then A gets a case_2 as well, which would take it."""
    settled, liver = tmp_path / "prepared" / "M" / "dataset.json", {"liver": 1}
    a, b = nnunet(tmp_path / "A", liver, "case_1"), nnunet(tmp_path / "B", liver, "case_1", "case_2")

    def check(*folders):
        check_names(merge([read_source(folder) for folder in folders], tmp_path / "raw" / "M"), settled)

    check(b, a)  # nothing is planned yet
    dataset = merged(tmp_path, a, b)
    assert [case.name for case in dataset.cases] == ["case_1", "B_case_1", "case_2"]
    save_settled(dataset, settled)
    check(a, b)
    check(a)
    check(nnunet(a, liver, "case_1", "case_3"), b, nnunet(tmp_path / "C", liver, "case_2"))
    nnunet(a, liver, "case_1", "case_2")
    with pytest.raises(DatasetError, match=r"case_2, now B_case_2 \(.*/B/imagesTr/case_2_0000.nii.gz\)") as caught:
        check(a, b)
    assert "case_1" not in caught.value.found and str(settled.parent) in caught.value.remedy
    with pytest.raises(DatasetError, match="case_1, now A_case_1 .*, B_case_1, now case_1 "):
        check(b, a)
    (tmp_path / "moved").mkdir()
    check(*(folder.rename(tmp_path / "moved" / folder.name) for folder in (a, b)))  # whose scan is whose, nobody knows


def test_a_label_map_is_strict(tmp_path):
    path = tmp_path / "map.json"
    path.write_text('{"table": {"labels": {"liver": 1}, "colour": 1}}')
    with pytest.raises(DatasetError, match="key 'table.colour'"):
        load(LabelNames, path, DatasetError)
    path.write_text('{"sources": {"A": {"x": null}}}')
    assert load(LabelNames, path, DatasetError).sources == {"A": {"x": None}}


def test_each_source_s_ignore_gets_the_value_of_the_merged_one(tmp_path):
    """One source has it as 2, one as 7, one has none: there the value 4 of the merged set stands for nothing."""
    one = nnunet(tmp_path / "A", {"liver": 1, "ignore": 2}, "a", annotated=["liver"])
    other = decathlon(tmp_path / "Task03", ("background", "cancer", "liver", "Ignore"))
    third = nnunet(tmp_path / "C", {"liver": 1, "cancer": 2, "spleen": 3}, "c")
    dataset = merged(tmp_path, one, other, third)
    assert dataset.labels.names == ("background", "liver", "cancer", "spleen") and dataset.ignore == 4
    assert dataset.labels.groups == {"organ": (1, 3), "cancer": (2,)}
    a, liver, c = dataset.cases
    assert (a.values, a.annotated) == ({1: 1, 2: HIDDEN}, {1})
    assert (liver.values, liver.annotated) == ({1: 2, 2: 1, 3: HIDDEN}, {1, 2})
    assert (c.values, c.annotated, c.declared) == ({1: 1, 2: 2, 3: 3}, {1, 2, 3}, False)
    own = read_source(tmp_path / "raw" / "M", Reading(allow_external=True))
    assert own.values == {1: "liver", 2: "cancer", 3: "spleen", 4: "ignore"}
    assert own.cases[1].values == {1: "cancer", 2: "liver", 3: "ignore"}
    table = {"labels": {"liver": 3, "cancer": 5, "spleen": 6, "ignore": 20}}
    dataset = merged(tmp_path / "table", one, third, table=table)
    assert dataset.ignore == 20 and dataset.cases[0].values == {1: 1, 2: HIDDEN}
    with pytest.raises(DatasetError, match="every label: 7 or more"):
        merged(tmp_path / "low", one, third, table={"labels": {**table["labels"], "ignore": 4}})


def test_a_label_may_be_mapped_to_ignore(tmp_path):
    """What a cyst in a liver is, nobody says then; a case that was searched for nothing else is unlabelled."""
    folder = nnunet(tmp_path / "A", {"liver": 1, "cyst": 2}, "a", annotated=["liver", "cyst"])
    dataset = merged(tmp_path, folder, sources={"A": {"cyst": "ignore"}})
    assert (dataset.labels.names, dataset.ignore) == (("background", "liver"), 2)
    assert (dataset.cases[0].values, dataset.cases[0].annotated) == ({1: 1, 2: HIDDEN}, {1})
    other = nnunet(tmp_path / "B", {"liver": 1, "cyst": 2}, "b", annotated=["cyst"])
    assert merged(tmp_path / "both", folder, other, sources={"B": {"cyst": "ignore"}}).cases[1].label is None
    bare = touch(tmp_path / "C", "imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz")
    dataset = merged(tmp_path / "bare", bare, sources={"C": {"6": "liver", "9": "ignore"}})
    assert dataset.ignore == 2 and dataset.cases[0].values == {6: 1, 9: HIDDEN}
