"""The truth comes in any form that training takes; what cannot be compared is refused with what to do."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from scipy import ndimage as ndi

from biomask.errors import BiomaskError, LabelsError, ManyErrors, PairingError, ReadError
from biomask.evaluation.evaluate import EvaluateOptions, evaluate, judge
from biomask.io.files import write_picture
from biomask.labels import Legend, LegendEntry
from biomask.recipe import DataSettings

COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
NAMES = ("nothing", "tumour", "stroma")
SIDE = 48


def truth(i: int, classes: int = 3, side: int = SIDE) -> np.ndarray:
    """(side, side) class positions: two discs on background."""
    y, x = np.ogrid[:side, :side]
    out = np.zeros((side, side), np.uint8)
    for k in range(1, classes):
        out[(y - 14 * k - i) ** 2 + (x - 14 * k) ** 2 < 8**2] = k
    return out


def predictions(folder: Path, values: tuple[int, ...] = (0, 1, 2), legend: Legend | None = None, count: int = 3,
                side: int = SIDE, classes: int = 3) -> Path:
    """What predict wrote: exactly the truth, but for two rows of the first image."""
    for i in range(count):
        mask = truth(i, classes, side)
        if i == 0:
            mask[:2] = 1
        (folder / "masks").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / "masks" / f"{i}.tif", np.asarray(values, np.uint8)[mask])
    if legend is not None:
        (folder / "run.json").write_text(json.dumps({"legend": legend.to_json()}))
    return folder


def legend_of(values: tuple[int, ...] = (0, 1, 2), colours: np.ndarray = COLOURS) -> Legend:
    return Legend(tuple(LegendEntry(v, n, tuple(map(int, c))) for v, n, c in zip(values, NAMES, colours, strict=False)))


def scored(out: Path, place: Path, **settings: object) -> dict:
    return evaluate(out, place, settings=DataSettings(**settings))


def assert_nearly_perfect(found: dict, wrong: float = 2 / SIDE / 3) -> None:
    """Only the two rows of the first image differ."""
    assert found["n_images"] == 3
    assert found["mean"]["pixel_error"] == pytest.approx(wrong, abs=0.002)
    assert found["per_image"][1]["pixel_error"] == pytest.approx(0, abs=0.002)


class TestColours:
    @pytest.mark.parametrize("values", [(0, 1, 2), (0, 100, 200)])
    def test_in_the_colours_of_the_prediction(self, tmp_path, values):
        out = predictions(tmp_path / "out", values, legend_of(values))
        for i in range(3):
            write_picture(tmp_path / "truth" / f"{i}.png", np.moveaxis(COLOURS[truth(i)], -1, 0))
        found = scored(out, tmp_path / "truth")
        assert_nearly_perfect(found)
        assert [c["name"] for c in found["per_class"].values()] == list(NAMES)

    def test_as_jpeg(self, tmp_path):
        out = predictions(tmp_path / "out", legend=legend_of())
        (tmp_path / "truth").mkdir()
        for i in range(3):
            Pillow.fromarray(COLOURS[truth(i)]).save(tmp_path / "truth" / f"{i}.jpg", quality=90, subsampling=0)
        found = scored(out, tmp_path / "truth")
        assert found["mean"]["pixel_error"] < 2 / SIDE / 3 + 0.02

    def test_a_colour_that_was_never_trained(self, tmp_path):
        out = predictions(tmp_path / "out", legend=legend_of())
        odd = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)
        for i in range(3):
            write_picture(tmp_path / "truth" / f"{i}.png", np.moveaxis(odd[truth(i)], -1, 0))
        with pytest.raises(LabelsError, match="#00ff00"):
            scored(out, tmp_path / "truth")

    def test_an_image_of_background_alone(self, tmp_path):
        out = predictions(tmp_path / "out", legend=legend_of())
        for i in range(3):
            mask = truth(i) * (i != 1)
            write_picture(tmp_path / "truth" / f"{i}.png", np.moveaxis(COLOURS[mask], -1, 0))
        found = scored(out, tmp_path / "truth")
        assert found["per_image"][1]["classes"]["1"]["dice"] == 0
        assert found["per_image"][2]["pixel_error"] == 0


class TestValues:
    def test_a_palette(self, tmp_path):
        out = predictions(tmp_path / "out", legend=legend_of())
        (tmp_path / "truth").mkdir()
        for i in range(3):
            picture = Pillow.fromarray(truth(i)).convert("P")
            picture.putpalette(COLOURS.ravel().tolist())
            picture.save(tmp_path / "truth" / f"{i}.png")
        assert_nearly_perfect(scored(out, tmp_path / "truth"))

    @pytest.mark.parametrize("name", ["{}_mask.png", "mask_{}.png", "{}-labels.png", "{}.png"])
    def test_names_with_words(self, tmp_path, name):
        out = predictions(tmp_path / "out")
        for i in range(3):
            write_picture(tmp_path / "truth" / name.format(i), truth(i))
        assert_nearly_perfect(scored(out, tmp_path / "truth"))

    def test_another_number_is_no_partner(self, tmp_path):
        out = predictions(tmp_path / "out", count=1)
        write_picture(tmp_path / "truth" / "7.png", truth(0))
        with pytest.raises(PairingError, match="7"):
            scored(out, tmp_path / "truth")

    def test_jpeg_with_values(self, tmp_path):
        out = predictions(tmp_path / "out", (0, 255), classes=2)
        (tmp_path / "truth").mkdir()
        for i in range(3):
            Pillow.fromarray(truth(i, 2) * 255).save(tmp_path / "truth" / f"{i}.jpg", quality=70)
        with pytest.raises(BiomaskError):
            scored(out, tmp_path / "truth")
        assert_nearly_perfect(scored(out, tmp_path / "truth", values=(0, 255)))

    def test_floats(self, tmp_path):
        out = predictions(tmp_path / "out")
        (tmp_path / "truth").mkdir()
        for i in range(3):
            tifffile.imwrite(tmp_path / "truth" / f"{i}.tif", truth(i).astype(np.float32))
        assert_nearly_perfect(scored(out, tmp_path / "truth"))

    def test_a_downsample(self, tmp_path):
        out = predictions(tmp_path / "out", side=96)
        for i in range(3):
            write_picture(tmp_path / "truth" / f"{i}.png", np.ascontiguousarray(truth(i, side=96)[::2, ::2]))
        with pytest.raises(ManyErrors, match="--mask-scale 2"):
            scored(out, tmp_path / "truth")
        assert scored(out, tmp_path / "truth", mask_scale=2)["mean"]["pixel_error"] < 0.03

    def test_twenty_objects_of_two_classes_are_not_taken_for_ids(self, tmp_path):
        """What predict recorded comes first."""
        out = predictions(tmp_path / "out", legend=legend_of())
        for i in range(3):
            write_picture(tmp_path / "truth" / f"{i}.png", np.where(i == 1, 2 * (truth(i) > 0), truth(i)).astype(np.uint8))
        assert scored(out, tmp_path / "truth")["n_images"] == 3


class TestSoft:
    def test_probabilities(self, tmp_path):
        out = predictions(tmp_path / "out", (0, 1), classes=2)
        (tmp_path / "truth").mkdir()
        for i in range(3):
            tifffile.imwrite(tmp_path / "truth" / f"{i}.tif", ndi.gaussian_filter((truth(i, 2) > 0).astype(np.float32), 1))
        found = scored(out, tmp_path / "truth")
        assert found["mean"]["pixel_error"] < 2 / SIDE / 3 + 0.01

    @pytest.mark.parametrize("count", [3, 4])
    def test_averages_of_experts(self, tmp_path, count):
        """At least half of them, as in training."""
        out = predictions(tmp_path / "out", (0, 255), classes=2)
        y, x = np.ogrid[:SIDE, :SIDE]
        for i in range(3):
            radii = [8 + 1.5 * (k - (count - 1) // 2) for k in range(count)][::-1]
            votes = sum(((y - 14 - i) ** 2 + (x - 14) ** 2 < r**2).astype(int) for r in radii)
            write_picture(tmp_path / "truth" / f"{i}.png", np.rint(votes * (255 / count)).astype(np.uint8))
            tifffile.imwrite(out / "masks" / f"{i}.tif", (votes >= count / 2).astype(np.uint8) * 255)
        found = scored(out, tmp_path / "truth")
        assert "experts" in found["truth_is"]
        assert set(found["per_class"]) == {"0", "255"}
        assert found["mean"]["pixel_error"] == 0


class TestOutlines:
    def outlines(self, folder: Path, kind: str) -> Path:
        folder.mkdir(parents=True)
        for i in range(3):
            squares = [(name, 5 + i, 5) for name in ("tumour",)] + [("stroma", 25, 25)]
            rings = [(name, [[x, y], [x + 10, y], [x + 10, y + 10], [x, y + 10]]) for name, y, x in squares]
            if kind == "labelme":
                shapes = [{"label": n, "points": r, "shape_type": "polygon"} for n, r in rings]
                (folder / f"{i}.json").write_text(json.dumps({"version": "5.8", "shapes": shapes, "imagePath": f"{i}.png"}))
            else:
                features = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*r, r[0]]]},
                             "properties": {"objectType": "annotation", "classification": {"name": n}}} for n, r in rings]
                (folder / f"{i}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return folder

    def predicted(self, folder: Path) -> Path:
        for i in range(3):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[5 + i : 15 + i, 5:15] = 1
            mask[25:35, 25:35] = 2
            (folder / "masks").mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "masks" / f"{i}.tif", mask)
        (folder / "run.json").write_text(json.dumps({"legend": legend_of().to_json()}))
        return folder

    @pytest.mark.parametrize("kind", ["labelme", "geojson"])
    def test_with_the_names_of_the_prediction(self, tmp_path, kind):
        found = scored(self.predicted(tmp_path / "out"), self.outlines(tmp_path / "truth", kind))
        assert found["mean"]["dice"] == 1
        assert found["per_class"]["1"]["name"] == "tumour"

    def test_a_name_that_was_never_trained(self, tmp_path):
        """Its outlines must not be scored as another class."""
        place = self.outlines(tmp_path / "truth", "labelme")
        for file in place.iterdir():
            file.write_text(file.read_text().replace("stroma", "necrosis"))
        with pytest.raises(LabelsError, match="necrosis"):
            scored(self.predicted(tmp_path / "out"), place)

    def test_coco(self, tmp_path):
        place = tmp_path / "truth"
        place.mkdir()
        categories = [{"id": 7, "name": "tumour"}, {"id": 9, "name": "stroma"}]
        annotations = []
        for i in range(3):
            for category, y, x in ((7, 5 + i, 5), (9, 25, 25)):
                ring = [x, y, x + 10, y, x + 10, y + 10, x, y + 10]
                annotations.append({"id": len(annotations), "image_id": i, "category_id": category, "iscrowd": 0,
                                    "segmentation": [ring]})
        images = [{"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in range(3)]
        (place / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        for i in range(3):
            write_picture(place / f"{i}.png", np.zeros((SIDE, SIDE), np.uint8))
        assert scored(self.predicted(tmp_path / "out"), place)["mean"]["dice"] == 1


class TestFolders:
    def data(self, folder: Path, first: int = 0, count: int = 3) -> Path:
        for i in range(first, first + count):
            write_picture(folder / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (SIDE, SIDE)).astype(np.uint8))
            write_picture(folder / "masks" / f"{i}.png", truth(i))
        return folder

    def test_a_data_folder(self, tmp_path):
        assert_nearly_perfect(scored(predictions(tmp_path / "out"), self.data(tmp_path / "data")))

    def test_its_folder_of_masks(self, tmp_path):
        assert_nearly_perfect(scored(predictions(tmp_path / "out"), self.data(tmp_path / "data") / "masks"))

    def test_one_part_of_several(self, tmp_path):
        """Only the images of one part were predicted: the others are no omission."""
        self.data(tmp_path / "data" / "test")
        self.data(tmp_path / "data" / "train", first=10)
        out = predictions(tmp_path / "out")
        assert_nearly_perfect(scored(out, tmp_path / "data" / "test"))
        assert_nearly_perfect(scored(out, tmp_path / "data"))

    def test_a_part_that_is_predicted_in_part(self, tmp_path):
        self.data(tmp_path / "data" / "test", count=4)
        self.data(tmp_path / "data" / "train", first=10)
        with pytest.raises(PairingError, match="1 of 4 true masks"):
            scored(predictions(tmp_path / "out"), tmp_path / "data")

    def test_parts_by_a_table(self, tmp_path):
        data = self.data(tmp_path / "data", count=5)
        (data / "split.csv").write_text("image,part\n0,test\n1,test\n2,test\n3,train\n4,train\n")
        assert_nearly_perfect(scored(predictions(tmp_path / "out"), data))

    def test_masks_of_objects_are_refused(self, tmp_path):
        for i in range(3):
            for k in (1, 2):
                write_picture(tmp_path / "truth" / f"{i}" / f"{k}.png", (truth(i) == k).astype(np.uint8) * 255)
        with pytest.raises(LabelsError, match="instances") as caught:
            scored(predictions(tmp_path / "out"), tmp_path / "truth")
        assert caught.value.fix

    def test_structures_are_refused(self, tmp_path):
        for i in range(3):
            for name in ("cup", "disc"):
                write_picture(tmp_path / "truth" / name / f"{i}.png", (truth(i) > 0).astype(np.uint8) * 255)
        with pytest.raises(BiomaskError) as caught:
            scored(predictions(tmp_path / "out"), tmp_path / "truth")
        assert "cup" in str(caught.value) + str(caught.value.fix)

    def test_ids_are_refused(self, tmp_path):
        for i in range(3):
            ids = np.kron(np.arange(16 + i)[:16].reshape(4, 4) + i, np.ones((12, 12), int)).astype(np.uint8)
            write_picture(tmp_path / "truth" / f"{i}.png", ids)
        with pytest.raises(LabelsError, match="instances") as caught:
            scored(predictions(tmp_path / "out"), tmp_path / "truth")
        assert "--labels classes" in caught.value.fix

    def test_two_ways_in_one_folder_are_refused(self, tmp_path):
        write_picture(tmp_path / "truth" / "0.png", truth(0))
        write_picture(tmp_path / "truth" / "1.png", np.moveaxis(COLOURS[truth(1)], -1, 0))
        write_picture(tmp_path / "truth" / "2.png", truth(2))
        with pytest.raises(BiomaskError, match="colours"):
            scored(predictions(tmp_path / "out"), tmp_path / "truth")

    def test_what_it_takes_to_look_at_the_images(self, tmp_path):
        judged = judge(predictions(tmp_path / "out"), self.data(tmp_path / "data"))
        assert [c.pair.image.name for c in judged.cases] == ["0.png", "1.png", "2.png"]
        assert len(judged.legend) == 3


class TestOneFileOfTruth:
    """Predictions in a folder, and a truth that is one file."""

    @staticmethod
    def ids(folder: Path) -> Path:
        for n, name in enumerate(("a/1", "b/1")):
            found = np.zeros((SIDE, SIDE), np.uint8)
            found[5:15, 5:15], found[5:15, 15:20 + 3 * n], found[30:40, 8:20] = 1, 2, 3
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / f"{name}.tif", found)
        return folder

    @staticmethod
    def coco(file: Path, names: tuple[str, ...]) -> Path:
        shapes = [[(5, 5, 15, 15), (15, 5, 20 + 3 * n, 15), (8, 30, 20, 40)] for n in range(2)]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({
            "images": [{"id": n, "file_name": name, "height": SIDE, "width": SIDE} for n, name in enumerate(names)],
            "categories": [{"id": 1, "name": "cell"}],
            "annotations": [{"id": 10 * n + k, "image_id": n, "category_id": 1, "iscrowd": 0, "segmentation": [[
                x0, y0, x1, y0, x1, y1, x0, y1]]} for n, few in enumerate(shapes) for k, (x0, y0, x1, y1) in enumerate(few)]}))
        return file

    @pytest.mark.parametrize("names", [("a/1.png", "b/1.png"), ("a\\1.jpg", "/b/1.ome.tif")])
    @pytest.mark.parametrize("folder", [False, True])
    def test_coco_without_its_images(self, tmp_path, names, folder):
        truth = self.coco(tmp_path / "truth" / "labels.json", names)
        found = evaluate(self.ids(tmp_path / "ids"), truth.parent if folder else truth)
        assert (found["kind"], found["n_images"]) == ("instances", 2)
        assert found["pooled"]["true_objects"] == 6
        assert (found["mean"]["ap"], found["mean"]["dice"]) == (1.0, 1.0)

    def test_an_image_that_was_not_predicted_is_missed(self, tmp_path):
        truth = self.coco(tmp_path / "t.json", ("a/1.png", "c/1.png"))
        with pytest.raises(PairingError, match=r"(?s)1 of 2 .*no prediction: c/1"):
            evaluate(self.ids(tmp_path / "ids"), truth)

    def test_one_mask(self, tmp_path):
        out = predictions(tmp_path / "out")
        write_picture(tmp_path / "1.png", truth(1))
        found = evaluate(out, tmp_path / "1.png")
        assert (found["n_images"], found["mean"]["dice"]) == (1, 1.0)


class TestOutlinesAsPredictions:
    """They are no pixels: what to type is said."""

    @pytest.mark.parametrize("side", ["predictions", "against"])
    def test_a_folder(self, tmp_path, side):
        TestOneFileOfTruth.coco(tmp_path / "found" / "x.json", ("0.png", "1.png"))
        out = predictions(tmp_path / "out")
        for i in range(3):
            write_picture(tmp_path / "truth" / f"{i}.png", truth(i))
        mine, others = (tmp_path / "found", None) if side == "predictions" else (out, tmp_path / "found")
        with pytest.raises(LabelsError, match=r"(?s)found: holds outlines.*biomask convert .*found --to labels"):
            evaluate(mine, tmp_path / "truth", options=EvaluateOptions(against=others))

    def test_a_file_without_scores(self, tmp_path):
        file = TestOneFileOfTruth.coco(tmp_path / "x.json", ("0.png", "1.png"))
        with pytest.raises(ReadError, match=r"(?s)labels and no results.*--to labels"):
            evaluate(file, file)
