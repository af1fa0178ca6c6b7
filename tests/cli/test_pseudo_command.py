"""flarenet_pseudo: words that do not fit; the command itself runs in tests/integration."""

import pytest

from flarenet.cli import pseudo
from flarenet.phantom import write_phantom_set


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    from flarenet.cli import plan

    root = tmp_path_factory.mktemp("root")
    write_phantom_set(root / "raw" / "P", cases=5, test_cases=0, seed=0, detail=0.4)
    small = ["configurations.3d.spacing_mm=[10,9,9]", "configurations.2d.spacing_mm=[null,8,8]"]
    assert plan.main(["-d", "P", "--root", str(root), "--workers", "1", "--set", *small]) == 0
    return root


@pytest.mark.parametrize(
    "words, code, said",
    [
        ([], 4, "flarenet_train 3DOrgan --step 1 -d P"),  # the first step with teachers, which are not trained yet
        (["--step", "DualDecoder2D/2"], 2, "a step without teachers"),
        (["--step", "DualDecoder2D/9"], 2, "expected: 1 to 4"),
        (["--step", "DualDecoder2D"], 2, "TRAINER/STEP, as DualDecoder2D/1"),
        (["--step", "1"], 2, "TRAINER/STEP, as DualDecoder2D/1"),
        (["--step", "DualDecoder/1"], 2, "did you mean 'DualDecoder2D'"),
        (["--set", "trainers.DualDecoder2D.steps.0.pseudo.agreement=3"], 4, "agreement"),
    ],
)
def test_words_that_do_not_fit(root, capsys, words, code, said):
    assert pseudo.main(["-d", "P", "--root", str(root), *words]) == code
    assert said in capsys.readouterr().err
