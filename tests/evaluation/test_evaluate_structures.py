"""Structures that may overlap: one mask each, on both sides."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.cli import main
from biomask.errors import BiomaskError, LabelsError, ManyErrors, PairingError
from biomask.evaluation.evaluate import evaluate, judge
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.recipe import DataSettings

SIDE, COUNT, NAMES = 40, 3, ("cup", "disc")


def disc(y: float, x: float, r: float) -> np.ndarray:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 < r**2


def true_masks(i: int) -> dict[str, np.ndarray]:
    """The cup lies in the disc; the last image has no cup."""
    return {"cup": disc(20, 20, 5 + i) & (i < 2), "disc": disc(20, 20, 12)}


def found_masks(i: int) -> dict[str, np.ndarray]:
    return {"cup": disc(21, 20, 5 + i) & (i < 2), "disc": disc(20 + i, 20, 11)}


def predicted(folder: Path, record: bool = True, names=NAMES) -> Path:
    for i in range(COUNT):
        for name in names:
            (folder / "masks" / name).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "masks" / name / f"{i}.tif", found_masks(i)[name].astype(np.uint8))
    if record:
        legend = Legend.of_values(range(len(names) + 1), dict(enumerate(names, start=1)))
        (folder / "run.json").write_text(json.dumps({"command": "predict", "kind": "multilabel", "legend": legend.to_json()}))
    return folder


def truth(folder: Path, images: bool = True) -> Path:
    for i in range(COUNT):
        for name, mask in true_masks(i).items():
            place = folder / "masks" / name if images else folder / name
            write_picture(place / f"{i}.png", mask.astype(np.uint8) * 255)
        if images:
            write_picture(folder / "images" / f"{i}.png", np.full((SIDE, SIDE), 7, np.uint8))
    return folder


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else None


def assert_right(got):
    """Scores by hand from the masks."""
    assert (got["kind"], got["n_images"]) == ("multilabel", COUNT)
    each = {n: [dice(true_masks(i)[n], found_masks(i)[n]) for i in range(COUNT)] for n in NAMES}
    for value, name in enumerate(NAMES, start=1):
        defined = [d for d in each[name] if d is not None]
        entry = got["per_class"][str(value)]
        assert (entry["name"], entry["images"]) == (name, len(defined))
        assert entry["dice"] == pytest.approx(np.mean(defined))
        a, b = (np.stack([m(i)[name] for i in range(COUNT)]) for m in (true_masks, found_masks))
        assert got["pooled"]["per_class"][str(value)]["dice"] == pytest.approx(dice(a, b))
        assert got["pooled"]["per_class"][str(value)]["iou"] == pytest.approx((a & b).sum() / (a | b).sum())
    assert got["per_image"][2]["classes"]["1"]["dice"] is None
    assert got["per_image"][0]["dice"] == pytest.approx(np.mean([each[n][0] for n in NAMES]))
    assert got["mean"]["dice"] == pytest.approx(np.mean([got["per_class"][v]["dice"] for v in ("1", "2")]))
    wrong = np.mean([true_masks(i)[n] != found_masks(i)[n] for i in range(COUNT) for n in NAMES])
    assert [got["mean"]["pixel_error"], got["pooled"]["pixel_error"]] == pytest.approx([wrong, wrong])
    json.dumps(got, allow_nan=False)


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("record", [True, False])
def test_equals_the_formulas(tmp_path, images, record):
    settings = DataSettings() if record or images else DataSettings(kind="multilabel")
    assert_right(evaluate(predicted(tmp_path / "out", record), truth(tmp_path / "t", images), settings=settings))


def test_the_folder_of_masks_itself(tmp_path):
    assert_right(evaluate(predicted(tmp_path / "out") / "masks", truth(tmp_path / "t") / "masks"))


def test_structures_are_paired_by_name_whatever_their_order(tmp_path):
    assert_right(evaluate(predicted(tmp_path / "out", names=NAMES[::-1]), truth(tmp_path / "t")))


def test_the_interval_of_many_images_is_around_the_mean(tmp_path):
    for i in range(9):
        for sub, masks in (("out", found_masks(i % 2)), ("t", true_masks(i % 2))):
            for name, mask in masks.items():
                write_picture(tmp_path / sub / "masks" / name / f"{i}.png", mask.astype(np.uint8) * 255)
    got = evaluate(tmp_path / "out", tmp_path / "t", settings=DataSettings(kind="multilabel"))
    assert got["intervals"]["dice"]["kind"].startswith("bootstrap")
    assert got["intervals"]["dice"]["low"] <= got["mean"]["dice"] <= got["intervals"]["dice"]["high"]


def test_unknown_pixels_do_not_count(tmp_path):
    out, place = predicted(tmp_path / "out"), truth(tmp_path / "t")
    for i in range(COUNT):
        mask = true_masks(i)["disc"].astype(np.uint8) * 255
        mask[true_masks(i)["disc"] != found_masks(i)["disc"]] = 9
        write_picture(place / "masks" / "disc" / f"{i}.png", mask)
    got = evaluate(out, place, settings=DataSettings(ignore=9))
    assert got["per_class"]["2"]["dice"] == 1


def test_a_missing_structure_is_named(tmp_path):
    with pytest.raises(LabelsError, match=r"masks: holds those of cup.*cup, disc|disc") as caught:
        evaluate(predicted(tmp_path / "out", names=("cup",)), truth(tmp_path / "t"))
    assert "disc" in str(caught.value)


def test_a_missing_mask_is_named(tmp_path):
    out = predicted(tmp_path / "out")
    (out / "masks" / "disc" / "1.tif").unlink()
    with pytest.raises(PairingError, match="1 has no prediction of disc"):
        evaluate(out, truth(tmp_path / "t"))


def test_masks_of_one_image_differ_in_size(tmp_path):
    out = predicted(tmp_path / "out")
    tifffile.imwrite(out / "masks" / "disc" / "1.tif", np.zeros((SIDE, SIDE - 1), np.uint8))
    with pytest.raises(ManyErrors, match=r"disc.1\.tif"):
        evaluate(out, truth(tmp_path / "t"))


def test_one_mask_for_all_is_refused(tmp_path):
    for i in range(COUNT):
        write_picture(tmp_path / "out" / "masks" / f"{i}.png", true_masks(i)["disc"].astype(np.uint8))
    with pytest.raises(BiomaskError, match="a mask a structure: cup, disc"):
        evaluate(tmp_path / "out", truth(tmp_path / "t"))


def test_report_and_command_line(tmp_path, capsys):
    out, place = predicted(tmp_path / "out"), truth(tmp_path / "t")
    api.evaluate(out, place, report=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "Each structure" in page
    assert "cup, disc, each on its own" in page
    assert main(["evaluate", str(out), str(place)]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("1 cup", "2 disc", "pooled", "structure"))
    assert len(judge(out, place).cases) == 3
