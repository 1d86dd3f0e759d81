"""`--part`: a part of a data folder by its split."""

import json
import shutil

import pytest

from biomask import api
from biomask.api import PredictOptions
from biomask.cli import main
from biomask.errors import MissingPathError, UsageError


@pytest.fixture
def split(tmp_path, make_dataset):
    """Four images, two of which test, by split.csv."""
    data = make_dataset(tmp_path / "data")
    rows = "".join(f"im_{n:02d},{'test' if n > 1 else 'train'}\n" for n in range(4))
    (data / "split.csv").write_text(f"image,part\n{rows}")
    return data


def test_by_split_csv(tmp_path, split, tiny_model):
    found = api.predict(tiny_model, split, tmp_path / "out", PredictOptions(part="test", device="cpu"))
    assert found.done == ("im_02", "im_03")
    evaluation = api.evaluate(tmp_path / "out", split)
    assert evaluation.n_images == 2
    assert api.predict(tiny_model, split, tmp_path / "out", PredictOptions(part="test", device="cpu")).done == ()
    assert sorted(json.loads((tmp_path / "out" / "run.json").read_text())["images"]) == ["im_02", "im_03"]


def test_by_folders(tmp_path, make_dataset, tiny_model):
    make_dataset(tmp_path / "all", n=3)
    for n in range(3):
        for kind in ("images", "masks"):
            place = tmp_path / "data" / ("test" if n == 2 else "train") / kind
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "all" / kind / f"im_{n:02d}.png", place)
    found = api.predict(tiny_model, tmp_path / "data", tmp_path / "out", PredictOptions(part="train", device="cpu"))
    assert found.done == ("im_00", "im_01")
    assert api.evaluate(tmp_path / "out", tmp_path / "data").n_images == 2


def test_the_command(tmp_path, split, tiny_model, capsys):
    assert main(["predict", str(tiny_model), str(split), "-o", str(tmp_path / "out"), "--part", "test", "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "masks" / "im_03.tif").is_file()
    assert not (tmp_path / "out" / "masks" / "im_00.tif").exists()
    assert main(["predict", str(tiny_model), str(split), "-o", str(tmp_path / "o2"), "--part", "half"]) == 2
    assert "--part 'half' is not known" in capsys.readouterr().err


def test_what_is_not_there(tmp_path, split, tiny_data, tiny_model):
    with pytest.raises(UsageError, match=r"has no part validation: there are test, train"):
        api.predict(tiny_model, split, tmp_path / "out", PredictOptions(part="validation"))
    with pytest.raises(UsageError, match="it is not split"):
        api.predict(tiny_model, tiny_data, tmp_path / "out", PredictOptions(part="test"))
    with pytest.raises(UsageError, match="lies among the images"):
        api.predict(tiny_model, split, split / "out", PredictOptions(part="test"))
    with pytest.raises(MissingPathError):
        api.predict(tiny_model, tmp_path / "nowhere", tmp_path / "out", PredictOptions(part="test"))
