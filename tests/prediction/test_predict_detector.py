"""The folder of predictions of a detector: what it found is in every file; a stand-in finds bright rectangles exactly."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.prediction.stand_in import BrightSquares, detections

from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import Model, ModelHeader
from biomask.errors import ReadError, UsageError
from biomask.io import read_image
from biomask.io.detections import read_detections
from biomask.io.files import write_picture
from biomask.labels import PALETTE, Legend
from biomask.models.mask_rcnn.types import Limits
from biomask.prediction.overlay import LUMA, TINT, draw_detections, told_apart, zoom_of
from biomask.progress import Silent
from biomask.recipe import NetworkSettings, NormalizationSettings, Recipe

#: (top, left, bottom, right, grey value) of what is in the images; hundredths of value / 250 are even: class 1, value 3; odd: 2, 7.
SCENES = {"a": [(2, 3, 12, 20, 200), (15, 5, 20, 9, 205), (22, 30, 36, 39, 120)], "sub/b": [(0, 0, 4, 4, 250)], "c": []}


@pytest.fixture
def images(tmp_path) -> Path:
    for name, rects in SCENES.items():
        picture = np.zeros((40, 50), np.uint8)
        for top, left, bottom, right, value in rects:
            picture[top:bottom, left:right] = value
        write_picture(tmp_path / "images" / f"{name}.png", picture)
    return tmp_path / "images"


@pytest.fixture
def model(tmp_path) -> Model:
    (tmp_path / "model.safetensors").write_bytes(b"a stand-in has no weights")
    recipe = Recipe(name="stand-in", network=NetworkSettings(name="faster-rcnn"),
                    normalization=NormalizationSettings(method="none"))
    header = ModelHeader(recipe=recipe, in_channels=1, spatial_dims=2, kind="instances", dtype="uint8",
                         legend=Legend.of_values([0, 3, 7], {3: "even", 7: "odd"}).to_json(), thresholds={"score": 0.5})

    class Scaled(BrightSquares):
        def forward(self, images, *, paste):
            return super().forward([image / 250 for image in images], paste=paste)

    return Model(Scaled(Limits(detections=50, score=0.0)).eval(), header, tmp_path / "model.safetensors")


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "objects.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("wrong", [{"kind": "classes"}, {"members": 2}, {"thresholds": {"score": float("nan")}},
                                   {"thresholds": {"score": 1.5}}])
def test_a_model_file_that_cannot_be_a_detectors_is_refused(model, wrong):
    ModelHeader.model_validate(model.header.model_dump())
    with pytest.raises(ValueError, match="a detector finds instances by one network and a score from 0 to 1"):
        ModelHeader.model_validate({**model.header.model_dump(), **wrong})


class TestFiles:
    @pytest.mark.parametrize("tile", [None, 24])
    def test_hold_what_was_found(self, tmp_path, images, model, tile):
        out = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", tile=tile)).out
        file = read_detections(out / "detections.json")
        assert [(c.id, c.name) for c in file.categories] == [(3, "even"), (7, "odd")]
        found = {image.file_name: image for image in file.images}
        assert set(found) == {"a.png", "sub/b.png", "c.png"}
        for name, rects in SCENES.items():
            kept = sorted((r for r in rects if r[4] > 125), key=lambda r: -r[4])
            image = found[f"{name}.png"]
            assert image.size == (40, 50)
            assert image.boxes.tolist() == [[left, top, right - left, bottom - top] for top, left, bottom, right, _ in kept]
            assert image.scores == pytest.approx([r[4] / 250 for r in kept])
            assert image.categories.tolist() == [3 if r[4] / 250 * 100 % 2 < 0.5 else 7 for r in kept]
            ids, mask = np.zeros((40, 50), int), np.zeros((40, 50), int)
            for number, (top, left, bottom, right, value) in enumerate(kept, start=1):
                ids[top:bottom, left:right] = number
                mask[top:bottom, left:right] = 3 if value / 250 * 100 % 2 < 0.5 else 7
            assert (tifffile.imread(out / "labels" / f"{name}.tif") == ids).all()
            assert (tifffile.imread(out / "masks" / f"{name}.tif") == mask).all()
            table = [row for row in rows(out) if row["image"] == name]
            assert [int(r["id"]) for r in table] == list(range(1, len(kept) + 1))
            assert [float(r["score"]) for r in table] == pytest.approx([r[4] / 250 for r in kept])
            assert [r["class"] for r in table] == ["even" if r[4] / 250 * 100 % 2 < 0.5 else "odd" for r in kept]
        record = json.loads((out / "run.json").read_text())
        assert record["limits"]["score"] == 0.5
        assert record["images"]["a"]["detections"] == 2
        assert record["images"]["a"]["windows"] == (1 if tile is None else 6)
        assert "2 objects" in (out / "report.html").read_text()

    def test_run_again_does_what_is_missing_and_another_score_all(self, tmp_path, images, model):
        def predicted(**options):
            return api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", **options)).done

        assert len(predicted()) == 3
        assert predicted() == ()
        (tmp_path / "out" / "detections" / "c.json").unlink()
        assert predicted() == ("c",)
        assert len(predicted(score=0.1)) == 3
        assert len(rows(tmp_path / "out")) == 4
        assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["annotations"]) == 4

    @pytest.mark.parametrize("damaged", ['{"images": [', '{"images": [], "annotations": []}'])
    def test_a_damaged_file_of_an_image_is_predicted_anew_once_it_is_deleted(self, tmp_path, images, model, damaged):
        def predicted():
            return api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu"))

        predicted()
        together, file = (tmp_path / "out" / name for name in ("detections.json", "detections/a.json"))
        before = together.read_text()
        file.write_text(damaged)
        with pytest.raises(ReadError, match=r"a\.json") as caught:
            predicted()
        assert "delete it" in caught.value.fix
        file.unlink()
        assert predicted().done == ("a",)
        assert together.read_text() == before

    def test_a_full_window_is_a_warning(self, tmp_path, images, model):
        model.network.limits = Limits(detections=2, score=0.0)
        result = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", score=0.1))
        (told,) = [w for w in result.warnings if "as many objects as the detector gives at most" in w and w.endswith(": a")]
        assert "--tile 20" in told  # half of an image of 40 x 50

    def test_a_detector_that_resizes_is_not_told_of_smaller_windows(self, tmp_path, images, model):
        model.network.limits, model.network.short_side = Limits(detections=2, score=0.0), 40
        result = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", score=0.1))
        (told,) = [w for w in result.warnings if "as many objects as the detector gives at most" in w]
        assert "limits.detections=4" in told
        assert "--tile" not in told

    def test_a_class_below_the_score_says_that(self, tmp_path, images, model):
        result = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", score=1.0))
        assert result.warnings
        assert all("a lower --score" in w for w in result.warnings if "never predicted" in w)

    def test_results_keep_the_pixels_of_a_rescaled_image(self, tmp_path, images, model):
        out = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", rescale=(2.0,), score=0.1)).out
        ids = tifffile.imread(out / "labels" / "a.tif")
        assert ids.shape == (40, 50)
        for top, left, bottom, right, _ in SCENES["a"]:
            assert len(np.unique(ids[top + 1:bottom - 1, left + 1:right - 1])) == 1
            assert ids[top + 1, left + 1] > 0

    def test_objects_go_to_coco(self, tmp_path, images, model):
        out = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", exports=("coco", "geojson"))).out
        (found,), (written,) = ([json.loads((out / name).read_text())["annotations"] for name in names]
                                for names in (["detections.json"], ["coco.json"]))
        assert len(found) == len(written) == 3
        assert {(*a["bbox"], *a["keypoints"], a["category_id"]) for a in found} == {
            (*a["bbox"], *a["keypoints"], a["category_id"]) for a in written}
        assert all(a["measurements"]["score"] > 0.5 for a in written)
        assert (out / "geojson" / "sub" / "b.geojson").is_file()


    def test_without_objects_there_are_masks_and_detections(self, tmp_path, images, model):
        out = api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", objects=False)).out
        assert not (out / "labels").exists()
        assert not (out / "objects.csv").exists()
        assert (tifffile.imread(out / "masks" / "sub" / "b.tif")[:4, :4] == 3).all()
        assert sum(len(i) for i in read_detections(out / "detections.json").images) == 3


class TestArray:
    def test_is_predicted_like_a_file(self, images, model):
        array = read_image(images / "a.png").array[0]
        found = api.predict_array(model, array, options=PredictOptions(device="cpu", score=0.1))
        assert found.detections is not None
        assert found.detections.boxes.tolist() == [[5, 15, 9, 20], [3, 2, 20, 12], [30, 22, 39, 36]]
        assert found.labels.max() == 3
        assert (found.mask[array == 205] == 3).all()
        assert found.objects["score"] == pytest.approx(np.array([205, 200, 120]) / 250)
        assert (found.probabilities.shape, found.channels) == ((0, 40, 50), ())


class TestRefusals:
    @pytest.mark.parametrize(("options", "flag"), [
        ({"probabilities": True}, "--probabilities"), ({"attention": True}, "--attention"), ({"depth": 2}, "--depth"),
        ({"mode": "fast"}, "--mode"), ({"augment": "mirrors"}, "--augment")])
    def test_what_a_detector_has_none_of(self, tmp_path, images, model, options, flag):
        with pytest.raises(UsageError, match=f"{flag}: the model is a detector"):
            api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", **options))
        assert not (tmp_path / "out").exists()

    def test_scores_of_another_model(self, tmp_path, images, rule_model):
        with pytest.raises(UsageError, match="--score is of detectors"):
            api.predict(rule_model(tmp_path / "m", "instances"), images, tmp_path / "out", PredictOptions(device="cpu", score=0.5))

    @pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
    def test_scores_that_are_none(self, score):
        with pytest.raises(UsageError, match="--score"):
            PredictOptions(score=score)


class TestOverlay:
    def test_draws_box_mask_and_skeleton_in_the_colour_of_the_object(self, tmp_path):
        write_picture(tmp_path / "i.png", np.zeros((400, 640), np.uint8))
        image = read_image(tmp_path / "i.png")
        points = np.array([[[100.5, 100.5, 1], [140.5, 100.5, 1], [300, 300, 0]]], np.float32)
        found = detections([(80, 80, 120, 160)], [0.875], points)
        legend = Legend.of_values([0, 1], {1: "cell"})
        picture = draw_detections(image, found, legend, [(0, 1), (1, 2)])
        colour = np.array([230, 159, 0])
        zoom = zoom_of((400, 640))
        assert picture.shape == (3, 400 * zoom, 640 * zoom)
        edge = picture[:, 80 * zoom, 90 * zoom:150 * zoom]
        assert (edge == colour[:, None]).all()
        assert np.abs(picture[:, 90 * zoom, 90 * zoom] - colour * TINT).max() <= 1
        assert (picture[:, round(100.5 * zoom), 120 * zoom] == colour).all()
        assert (picture[:, 300 * zoom, 300 * zoom] == 0).all()
        above = picture[:, 80 * zoom - 14:80 * zoom - 2, 80 * zoom:80 * zoom + 20].reshape(3, -1)
        assert {tuple(c) for c in above.T.tolist()} >= {tuple(colour.tolist()), (0, 0, 0)}

    @pytest.mark.parametrize("shape", [(300, 256), (3, 300, 256)])
    @pytest.mark.parametrize("colour", PALETTE[:-1])
    def test_an_image_keeps_its_brightness_under_a_mask(self, tmp_path, shape, colour):
        """No darker, and what is brighter stays so: of any colour, grey or coloured below it."""
        ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), shape).copy()
        if len(shape) == 3:
            ramp[1] = ramp[1] // 2
        write_picture(tmp_path / "i.png", ramp)
        image, zoom = read_image(tmp_path / "i.png"), zoom_of((300, 256))
        legend = Legend.of_values([0, 1, 2], {1: "cell", 2: "other"})
        legend = Legend((legend.entries[0], replace(legend.entries[1], colour=colour), legend.entries[2]))
        bare = draw_detections(image, detections([], []), legend)[:, 200 * zoom, ::zoom].astype(float)
        under = draw_detections(image, detections([(100, 0, 300, 256)], [0.9]), legend)[:, 200 * zoom, ::zoom].astype(float)
        shown, was = (np.tensordot(LUMA, line, 1)[2:-2] for line in (under, bare))
        room = was < 150  # brighter ones may have no brighter colour
        assert (shown >= was - 1)[room].all()
        assert (shown >= was - 20).all()
        assert (np.diff(shown) >= -0.6).all()
        assert np.ptp(shown) >= (1 - TINT) * np.ptp(was) - 1
        assert np.abs(under - bare)[:, 100].max() > 20, "the mask is seen"

    def test_many_masks_tint_as_much_as_one(self, tmp_path):
        write_picture(tmp_path / "i.png", np.arange(90, dtype=np.uint8).repeat(40).reshape(90, 40))
        image, legend = read_image(tmp_path / "i.png"), Legend.of_values([0, 1], {1: "cell"})
        rects = [(10, 4, 80, 36), (9, 3, 81, 37), (8, 2, 82, 38), (7, 1, 83, 39)]
        one, many = (draw_detections(image, detections(rects[:n], [0.9, 0.8, 0.7, 0.6][:n]), legend) for n in (1, 4))
        zoom = zoom_of((90, 40))
        inside = np.s_[:, 30 * zoom:78 * zoom, 6 * zoom:34 * zoom]
        assert (one[inside] == many[inside]).all()
        assert np.abs(one.astype(int) - draw_detections(image, detections([], []), legend))[inside].max() > 20

    @pytest.mark.parametrize(("side", "width"), [(40, 2), (700, 1), (1600, 2)])
    def test_an_outline_is_one_or_two_pixels_of_its_colour(self, tmp_path, side, width):
        write_picture(tmp_path / "i.png", np.full((side, side), 90, np.uint8))
        image, zoom = read_image(tmp_path / "i.png"), zoom_of((side, side))
        found = detections([(5, 5, 35, 35)], [0.9])
        found = replace(found, boxes=found.boxes * 0)  # its box would lie on the outline
        row = draw_detections(image, found, Legend.of_values([0, 1], {1: "cell"}))[:, 20 * zoom, :40 * zoom]
        full = np.flatnonzero((row == np.array(PALETTE[0])[:, None]).all(axis=0))
        assert full.tolist() == [*range(5 * zoom, 5 * zoom + width), *range(35 * zoom - width, 35 * zoom)]

    @given(st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 6)] * 2), max_size=12))
    def test_overlapping_boxes_have_different_colours(self, rects):
        boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rects], np.float32).reshape(-1, 4)
        colours = told_apart(boxes)
        for n, (x, y, w, h) in enumerate(rects):
            before = [m for m, (a, b, c, d) in enumerate(rects[:n]) if a < x + w and x < a + c and b < y + h and y < b + d]
            if len({colours[m] for m in before}) < len(PALETTE) - 1:
                assert colours[n] not in {colours[m] for m in before}

    def test_nothing_found_is_the_image(self, tmp_path):
        write_picture(tmp_path / "i.png", np.arange(100, dtype=np.uint8).reshape(10, 10))
        image = read_image(tmp_path / "i.png")
        assert draw_detections(image, detections([], []), Legend.of_values([0, 1])).shape == (3, 1280, 1280)

    def test_progress_names_nothing_of_copies(self, tmp_path, images, model):
        said = []

        class Listening(Silent):
            def say(self, message):
                said.append(message)

        api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu"), progress=Listening())
        assert not [line for line in said if "copies" in line]
