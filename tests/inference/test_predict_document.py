"""docs/predict.md, its Python block by block, as a reader would type it."""

import re
import runpy
from pathlib import Path

import nibabel
import numpy as np

from tests.inference.test_predict import AIR_HU, BODY_HU, model_folder

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "predict.md"


def test_the_document(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "MODEL")
    Path("scans").mkdir()
    body = np.zeros((30, 28, 6), dtype=bool)
    body[5:20, 8:20, 1:5] = True
    for name in ("a_0000", "b"):
        data = np.where(body, BODY_HU, AIR_HU).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), f"scans/{name}.nii.gz")
    Path("scans/c.nii.gz").write_bytes(b"this is no image")
    script = Path("document.py")
    script.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)))
    names = runpy.run_path(str(script))
    assert names["prediction"].labels.shape == (20, 64, 64)
    assert names["prediction"].grid.spacing_mm == (3, 0.8, 0.8)
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.nii.gz", "b.nii.gz"]
    np.testing.assert_array_equal(nibabel.load("out/a.nii.gz").get_fdata() == 1, body)
    assert Path("out/a.nii.gz").read_bytes() == Path("streamed/a.nii.gz").read_bytes()
    assert [path.name for path in names["done"]] == ["a.nii.gz", "b.nii.gz"] and len(names["failures"]) == 1
    assert Path("streamed/previews/b.png").is_file() and Path("streamed/statistics/b.json").is_file()
    assert "c.nii.gz failed:" in capsys.readouterr().out
