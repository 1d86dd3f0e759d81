"""Files and folders that are not what the command wants, in every place of every command: a message, the right exit code,
and everything else as it was."""

import os
import shutil
import sys

import numpy as np
import pytest

from biomask.io.files import write_picture

NO_LINKS = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes need rights here that few have")

#: Image files that cannot be read, by what holds them in bad/images.
IMAGES = ("empty_png", "text_png", "random_png", "random_tif", "truncated_png", "truncated_tif", "bomb_png", "zero_png", "bomb_npy",
          "zero_npy", "negative_npy", "code_npy", "bomb_nii_gz", "truncated_nii_gz", "random_nii_gz", "random_jpg", "bomb_bmp",
          "nan_tif", "inf_tif", "complex_tif")

#: Those that are tried in more places.
FEW = ("truncated_png", "random_tif", "bomb_npy", "truncated_nii_gz")

MODELS = ("empty", "random", "pickle", "zip", "truncated", "half", "header", "longer", "huge", "nothing", "json", "deep", "foreign",
          "header_json", "header_deep", "header_empty", "header_list", "header_null", "newer", "other_network", "unknown_network",
          "monster", "no_legend", "members", "offsets")

RECIPES = ("empty", "list", "scalar", "number", "null", "tab", "bomb", "merged", "deep", "recursive", "code", "unknown", "wrong",
           "section", "key", "huge", "nan", "documents", "quote", "date", "binary", "folder", "missing")

#: Places that are no folder of images.
PLACES = ("{world}/nowhere", "{bad}/places/empty", "{bad}/places/text_only", "{bad}/places/file", "{world}/notes.txt",
          "{bad}/places/file/below", "{world}/" + "a" * 300, "{world}/nowhere/" + "b/" * 2000,
          *(pytest.param(place, marks=NO_LINKS) for place in (
              "{bad}/places/loop", "{bad}/places/dangling", "{bad}/places/turning", "{bad}/places/fifo", "/dev/null")))

#: Every command with a place for a folder of data.
READERS = {
    "check": ("check", "PLACE", "--report", "{new}/check.html"),
    "train": ("train", "PLACE", "-o", "{new}", "{quick}"),
    "masks": ("train", "{data}", "--masks", "PLACE", "-o", "{new}", "{quick}"),
    "predict": ("predict", "{model}", "PLACE", "-o", "{new}", "--device", "cpu"),
    "evaluate": ("evaluate", "PLACE", "{data}"),
    "truth": ("evaluate", "{masks}", "PLACE"),
    "convert": ("convert", "PLACE", "--to", "coco", "-o", "{new}"),
}


def placed(line, place):
    return [place if part == "PLACE" else part for part in line]


@pytest.mark.parametrize("place", PLACES, ids=lambda p: p[-20:])
@pytest.mark.parametrize("verb", READERS)
def test_places(odd, verb, place):
    code, _, err = odd(*placed(READERS[verb], place))
    assert code == 1, err


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_cannot_be_read(odd, world, tmp_path, name):
    """Named, beside a good one, which is done."""
    bad = next((world / "bad" / "images" / name).iterdir())
    (tmp_path / "images").mkdir()
    shutil.copy(bad, tmp_path / "images" / bad.name)
    shutil.copy(world / "data" / "images" / "im_00.png", tmp_path / "images")
    code, _, err = odd("predict", "{model}", tmp_path / "images", "-o", "{new}", "--device", "cpu")
    assert code == {"bomb_nii_gz": 3}.get(name, 1), err
    assert bad.name in err
    assert (tmp_path / "new" / "masks" / "im_00.tif").is_file()


@pytest.mark.parametrize(("verb", "name"), [*(("check", name) for name in IMAGES), *(
    (verb, name) for verb in ("train", "evaluate", "convert") for name in FEW)])
def test_a_bad_file_among_good_data(odd, world, tmp_path, verb, name):
    """As an image and as a mask; the file is named."""
    bad = next((world / "bad" / "images" / name).iterdir())
    suffix = "".join(bad.suffixes)
    truth = np.where(np.arange(1600).reshape(40, 40) > 800, 255, 0).astype(np.uint8)
    for n in range(3):
        write_picture(tmp_path / "data" / "images" / f"{n}.png", (truth // 2 + n).astype(np.uint8))
        write_picture(tmp_path / "data" / "masks" / f"{n}.png", truth)
        write_picture(tmp_path / "truth" / f"{n}.png", truth)
    where = "images" if verb in ("check", "train") else "masks"
    (tmp_path / "data" / where / "2.png").unlink()
    (tmp_path / "data" / where / f"2{suffix}").write_bytes(bad.read_bytes())
    if verb == "evaluate":
        code, out, err = odd("evaluate", tmp_path / "data" / "masks", tmp_path / "truth")
    else:
        code, out, err = odd(*placed(READERS[verb], str(tmp_path / "data")))
    assert code == 1, err
    assert f"2{suffix}" in out + err


@pytest.mark.parametrize(("verb", "name"), [*(("predict", name) for name in MODELS), *(
    ("from", name) for name in ("random", "truncated", "foreign", "header_json", "other_network", "monster"))])
def test_models(odd, verb, name):
    model = f"{{bad}}/models/{name}"
    line = {"predict": ("predict", model, "{images}", "-o", "{new}"),
            "from": ("train", "{data}", "-o", "{new}", "--from", model, "{quick}")}[verb]
    code, _, err = odd(*line)
    assert code == (0 if (verb, name) == ("from", "foreign") else 1), err  # weights alone are enough to begin with


@pytest.mark.parametrize("place", ["{world}/nowhere", "{bad}/places/empty", "{world}/notes.txt", "{data}", "{out}",
                                   "{images}/im_00.png", *(pytest.param(p, marks=NO_LINKS) for p in (
                                       "{bad}/places/loop", "/dev/zero", "/dev/null", "{bad}/places/fifo/pipe.png"))])
@pytest.mark.parametrize("verb", ["predict", "from"])
def test_places_of_models(odd, verb, place):
    line = {"predict": ("predict", place, "{images}", "-o", "{new}"),
            "from": ("train", "{data}", "-o", "{new}", "--from", place, "{quick}")}[verb]
    code, _, err = odd(*line)
    assert code == 1, err


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(odd, name):
    code, _, err = odd("train", "{data}", "-o", "{new}", "--recipe", f"{{bad}}/recipes/{name}.yaml", "--steps", "1")
    assert code == 1, err
    assert f"{name}.yaml" in err
    assert len(err) < 2000  # a bomb is not printed


#: Where results cannot go.
@pytest.mark.parametrize(("place", "code"), [
    ("{world}/notes.txt", 1), ("{world}/notes.txt/out", 1), ("{images}", 2), ("{images}/im_00.png", 2),
    *(pytest.param(p, 1, marks=NO_LINKS) for p in ("/dev/null", "/proc/x", "{bad}/places/loop"))])
@pytest.mark.parametrize("verb", ["train", "convert", "predict"])
def test_places_of_results(odd, verb, place, code):
    line = {"train": ("train", "{data}", "-o", place, "{quick}"), "convert": ("convert", "{data}", "--to", "labels", "-o", place),
            "predict": ("predict", "{model}", "{images}", "-o", place, "--device", "cpu")}[verb]
    got, _, err = odd(*line)
    assert got == code, err


@pytest.mark.parametrize(("line", "code"), [
    (("predict", "{model}", "{images}", "-o", "{model}"), 1),  # another command's results
    (("train", "{data}", "-o", "{data}", "{quick}"), 2), (("train", "{data}", "-o", "{data}/new", "{quick}"), 2),
    (("convert", "{data}", "--to", "labels", "-o", "{data}"), 2), (("convert", "{data}", "--to", "labels", "-o", "{data}/new"), 2),
    (("train", "{data}", "-o", "{out}", "{quick}"), 2),
    (("convert", "{data}", "--to", "labels", "-o", "{out}/masks"), 1),
    (("convert", "{data}", "--to", "coco", "-o", "{world}/json.json"), 1),
    (("demo", "-o", "{out}", "--minutes", "0.01"), 2),
    (("demo", "-o", "{world}/notes.txt", "--minutes", "0.01"), 2),
    (("check", "{data}", "--report", "{data}/check.html"), 2),
    (("check", "{data}", "--report", "{images}/im_00.png"), 2),
    (("check", "{data}", "--report", "{world}/notes.txt"), 2),
    (("check", "{data}", "--report", "{world}"), 1),
    (("check", "{data}", "--report", "{world}/notes.txt/x.html"), 1),
    (("evaluate", "{masks}", "{out}", "--report", "{masks}/im_00.png"), 2),
    (("evaluate", "{masks}", "{out}", "--report", "{world}"), 1),
    (("evaluate", "{out}", "{data}", "--report", "{model}/model.safetensors"), 2),
    *((("doctor", "--no-self-test", *more), code) for more, code in (
        (("--json", "{world}"), 1), (("--json", "{world}/notes.txt"), 2), (("--json", "{images}/im_00.png"), 2),
        (("--json", "{model}/model.safetensors"), 2), (("--json", "{world}/notes.txt/x.json"), 1), (("--json", "."), 1),
        (("--log", "{world}"), 1), (("--log", "{world}/notes.txt"), 2), (("--log", "{images}/im_00.png"), 2),
        (("--log", "{world}/notes.txt/x.log"), 1), (("--log={model}/model.safetensors",), 2))),
    *(((*line, "--json", "{world}/notes.txt"), 2) for line in (
        ("check", "{data}"), ("train", "{data}", "-o", "{new}", "{quick}"), ("predict", "{model}", "{images}", "-o", "{new}"),
        ("evaluate", "{out}", "{data}"), ("convert", "{data}", "--to", "coco", "-o", "{new}"), ("demo", "-o", "{new}"),
        ("recipes",))),
], ids=lambda x: " ".join(x)[:70] if isinstance(x, tuple) else str(x))
def test_results_never_replace_what_is_no_result(odd, line, code):
    got, _, err = odd(*line)
    assert got == code, err


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be there")
@pytest.mark.parametrize("name", [
    "with space", "细胞", "new\nline", "quote'\"", "[bold]red[x]", "--option", "%s", "back\\slash", "*", "a" * 200, "nonutf8\udcff",
    "e\u0301", ".hidden"])
def test_names_that_are_odd_and_good(odd, make_dataset, world, tmp_path, name):
    """Folders and files of any name are read, and results of any name written."""
    try:
        data = make_dataset(tmp_path / name / "data", n=2)
        (data / "images" / "im_00.png").rename(data / "images" / f"{name}.png")
        (data / "masks" / "im_00.png").rename(data / "masks" / f"{name}.png")
    except (OSError, UnicodeError):
        pytest.skip("this disk takes no such name")
    hidden = name.startswith(".")
    code, _, err = odd("predict", "{model}", data / "images", "-o", tmp_path / name / "out", "--device", "cpu")
    assert code == 0, err
    assert (tmp_path / name / "out" / "masks" / f"{name}.tif").is_file() != hidden
    code, _, err = odd("evaluate", tmp_path / name / "out", data, "--report", tmp_path / name / "r.html",
                       "--json", tmp_path / name / "e.json")
    assert code == 0, err
    assert (tmp_path / name / "r.html").is_file()


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="rights do not bind root")
def test_rights(odd, make_dataset, tmp_path):
    data = make_dataset(tmp_path / "data")
    (data / "images" / "im_00.png").chmod(0)
    assert odd("check", data)[0] == 1
    (tmp_path / "locked").mkdir(mode=0o500)
    for line in (("train", "{data}", "-o", tmp_path / "locked" / "m", "{quick}"),
                 ("predict", "{model}", "{images}", "-o", tmp_path / "locked" / "o")):
        assert odd(*line)[0] == 1
