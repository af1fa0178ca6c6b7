import numpy as np
import pytest
from matplotlib.image import imread

from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.training.callbacks import Example
from flarenet.training.loop import fit
from flarenet.training.overlays import MOST, Overlays, draw_examples, is_due
from tests.training.tiny import LABELS as BRIGHT
from tests.training.tiny import STEP, fresh_state, held_out, training_setup

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 99, 1000])
def test_few_epochs_have_a_picture_and_the_last_one_has(epochs):
    due = [epoch for epoch in range(1, epochs + 1) if is_due(epoch, epochs)]
    assert due[-1] == epochs
    assert min(epochs, MOST // 2) <= len(due) <= MOST + 1


def test_pictures_are_named_by_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("flarenet.training.curve.REDRAWN_S", 0.0)
    fit(fresh_state(), training_setup(tmp_path, Overlays(BRIGHT), validate=held_out()))
    names = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert names == [f"epoch_{epoch}.png" for epoch in range(1, STEP.epochs + 1)]


def test_of_epochs_that_take_no_time_the_first_and_the_last_have_pictures(tmp_path):
    fit(fresh_state(), training_setup(tmp_path, Overlays(BRIGHT), validate=held_out()))
    names = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert names == ["epoch_1.png", f"epoch_{STEP.epochs}.png"] and STEP.epochs > 2


def test_no_pictures_where_nothing_is_held_out(tmp_path):
    fit(fresh_state(), training_setup(tmp_path, Overlays(BRIGHT)))
    assert not (tmp_path / "overlays").exists()


def test_left_is_on_the_right_and_labels_are_beside_what_was_predicted(tmp_path):
    drawn, predicted = np.zeros((40, 40), dtype=np.uint8), np.zeros((40, 40), dtype=np.uint8)
    drawn[30:, :10] = 2  # small x is the patient's left, large y the front
    predicted[:10, 30:] = 2
    image = np.full((40, 40), 0.5, dtype=np.float32)
    figure = draw_examples([Example("a", image, drawn, predicted, ())], LABELS, caption="a")
    figure.savefig(tmp_path / "a.png")
    rgb = imread(tmp_path / "a.png")[..., :3]
    height, width = rgb.shape[:2]
    legend = int(0.85 * height)
    rows, columns = np.nonzero(rgb[:legend, :, 1] > rgb[:legend, :, 0] + 0.05)  # green, as the spleen is
    in_drawn = (columns > width / 3) & (columns < width * 2 / 3)
    assert columns[in_drawn].min() > width / 2 and rows[in_drawn].max() < height / 2
    assert columns[~in_drawn].min() > width * 2 / 3 and columns[~in_drawn].max() < width * 5 / 6
    assert rows[~in_drawn].min() > height / 2


def words(figure):
    texts = [text for axis in figure.axes for text in axis.texts]
    return {text.get_text() for text in (*texts, *figure.legends[0].get_texts())}


def test_what_is_not_annotated_is_said():
    drawn = np.array([[1, HIDDEN], [0, 0]], dtype=np.uint8)
    example = Example("a", np.zeros((2, 2), dtype=np.float32), drawn, np.zeros_like(drawn), (2, 3))
    said = words(draw_examples([example], LABELS, caption="a"))
    assert {"a\nnot annotated: spleen, tumor", "liver", "not annotated"} <= said
