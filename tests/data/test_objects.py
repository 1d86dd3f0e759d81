"""The objects of an image for a detector: overlaps, crowds, boxes, keypoints, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.data.dataset import Dataset, open_dataset
from biomask.data.object_facts import object_facts
from biomask.data.objects import Objects, box_of, drawn_objects, labelled_objects, objects_of
from biomask.errors import InputError, LabelsError, SizeError
from biomask.io import write_mask
from biomask.labels import Labels, Legend
from biomask.recipe import DataSettings
from biomask.shapes import Annotations, Shape
from biomask.transforms import Normalization

SIZE = (20, 30)


def rectangle(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def annotation(number: int, segmentation: Any, image: int = 1, category: int = 3, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "bbox": [0, 0, 0, 0],
            "iscrowd": 0, **more}


def coco(folder: Path, *annotations: dict[str, Any], categories: Any = ({"id": 3, "name": "cell"},), count: int = 1,
         **settings: Any) -> Dataset:
    """A data set of `count` dark images called 1.png, 2.png, … with these annotations."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    images = []
    for i in range(1, count + 1):
        Image.fromarray(np.full(SIZE, i, np.uint8)).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]})
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return open_dataset(folder, DataSettings(kind="instances", unlabelled="background", **settings), Normalization("none"))


def pasted(found: Objects) -> np.ndarray:
    out = np.zeros((len(found), *found.size), bool)
    for plane, crop in zip(out, found.masks, strict=True):
        assert crop is not None
        pixels, (top, left) = crop
        plane[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
    return out


def extents(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_overlaps_are_kept_and_crowds_marked(tmp_path: Path) -> None:
    run = {"size": list(SIZE), "counts": [5 * 20 + 2, 8, 32, 8, 30 * 20 - 5 * 20 - 50]}
    data = coco(tmp_path / "d", annotation(5, [rectangle(2, 3, 10, 8)]), annotation(6, [rectangle(6, 5, 10, 8)], category=9),
                annotation(7, run, iscrowd=1), categories=[{"id": 9, "name": "dust"}, {"id": 3, "name": "cell"}])
    found = objects_of(data, 0)
    assert [e.name for e in data.legend] == ["background", "cell", "dust"]
    assert (found.classes.tolist(), found.crowd.tolist(), found.ids.tolist()) == ([1, 2, 1], [False, False, True], [1, 2, 3])
    assert found.boxes.tolist() == [[2, 3, 12, 11], [6, 5, 16, 13], [5, 2, 8, 10]]
    masks = pasted(found)
    assert masks.sum((1, 2)).tolist() == [80, 80, 16]
    assert (masks[0] & masks[1]).sum() == 6 * 6
    assert found.dropped == ()
    assert found.keypoints is None


def test_boxes_are_those_of_the_pixels(tmp_path: Path) -> None:
    """The file's own boxes do not count: this one has no area."""
    data = coco(tmp_path / "d", annotation(5, [[2.6, 3.2, 9.4, 3.2, 9.4, 7.7]]))
    found = objects_of(data, 0)
    assert found.boxes[0].tolist() == extents(pasted(found)[0])


def test_what_has_no_pixel_is_dropped_by_name(tmp_path: Path) -> None:
    data = coco(
        tmp_path / "d", annotation(1, [rectangle(2, 2, 5, 5)]), annotation(2, [rectangle(28, 15, 9, 9)]),
        annotation(3, [rectangle(40, 2, 5, 5)]), annotation(4, [rectangle(2.6, 2.6, 0.2, 0.2)]),
        annotation(5, [[3, 3, 8, 8]]), annotation(6, [], bbox=[3, 3, 0, 5]), annotation(7, [], bbox=[35, 3, 4, 5]),
        annotation(8, [], bbox=[-3, 3, 10, 50.5]), annotation(9, [rectangle(10, 10, 4, 4)]),
        annotation(10, [rectangle(15, 10, 4, 4)]))
    found = objects_of(data, 0)
    assert found.boxes.tolist() == [[2, 2, 7, 7], [28, 15, 30, 20], [10, 10, 14, 14], [15, 10, 19, 14], [0, 3, 7, 20]]
    assert [m is None for m in found.masks] == [False] * 4 + [True]
    assert {said.split(" (")[0]: said.split(" (")[1] for said in found.dropped} == {
        "annotation 5": "it has 2 different points, an outline needs 3)",
        "annotation 6": "it has no outline, and its box has no area)",
        "annotation 3": "it covers no pixel of the image)", "annotation 4": "it covers no pixel of the image)",
        "annotation 7": "its box lies outside the image)"}
    facts = object_facts(data)
    assert facts.dropped["it covers no pixel of the image"] == 2
    assert sum(facts.dropped.values()) == 5
    assert facts.boxes_alone == 1
    assert facts.objects == 5
    assert any(note.startswith("2 objects not learnt, or not as given: it covers no pixel") for note in facts.notes)
    assert any(n.startswith("1 object with a box and no outline") for n in facts.notes)


def test_gaps_in_category_ids_and_empty_images(tmp_path: Path) -> None:
    categories = [{"id": 1000, "name": "b"}, {"id": 2, "name": "a"}, {"id": 77, "name": "c"}]
    data = coco(tmp_path / "d", annotation(1, [rectangle(2, 2, 5, 5)], category=1000),
                annotation(2, [rectangle(9, 2, 5, 5)], category=77),
                annotation(3, [rectangle(1, 1, 3, 3)], image=3, category=2), categories=categories, count=3)
    names = [e.name for e in data.legend]
    assert [[names[c] for c in objects_of(data, i).classes] for i in range(3)] == [["b", "c"], [], ["a"]]
    assert objects_of(data, 1).boxes.shape == (0, 4)
    assert objects_of(data, 1).size == SIZE


def test_annotations_without_an_image_and_missing_files_are_said(tmp_path: Path) -> None:
    said = []

    class Said:
        def say(self, text: str) -> None:
            said.append(text)

        def bar(self, _: str) -> Any:
            from biomask.progress import Silent

            return Silent().bar(_)

    coco(tmp_path / "d", annotation(1, [rectangle(2, 2, 5, 5)]), annotation(12, [rectangle(2, 2, 5, 5)], image=44), count=2)
    (tmp_path / "d" / "2.png").unlink()
    open_dataset(tmp_path / "d", DataSettings(kind="instances", unlabelled="background"), Normalization("none"), progress=Said())
    assert any("annotation 12 (image 44 is not in the file)" in line for line in said)
    assert any("1 of 2 images of the COCO files are not here: 2.png" in line for line in said)


def test_boxes_alone_keep_their_classes(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "egg"}, {"id": 2, "name": "worm"}]
    data = coco(tmp_path / "d", annotation(1, [], bbox=[2, 3, 4.5, 6], category=2),
                annotation(2, [], bbox=[9, 3, 4, 6], category=1), categories=categories)
    found = objects_of(data, 0)
    assert [data.legend.entries[k].name for k in found.classes] == ["worm", "egg"]
    assert found.boxes.tolist() == [[2, 3, 6.5, 9], [9, 3, 13, 9]]
    assert found.masks == (None, None)


def test_keypoints_of_objects(tmp_path: Path) -> None:
    fish = {"id": 3, "name": "fish", "keypoints": ["l_fin", "r_fin"]}
    coco(tmp_path / "d", annotation(1, [rectangle(2, 2, 5, 5)]))
    shown = {"images": [{"id": 1, "file_name": "1.png", "height": 20, "width": 30}], "categories": [fish], "annotations": [
        annotation(1, [rectangle(2, 2, 5, 5)], keypoints=[3, 3, 2, 31, 4, 1]), annotation(2, [rectangle(9, 2, 5, 5)])]}
    (tmp_path / "d" / "keypoints.json").write_text(json.dumps(shown))
    settings = DataSettings(kind="instances")
    plain = open_dataset(tmp_path / "d", settings, Normalization("none"))
    assert objects_of(plain, 0).keypoints is None
    assert object_facts(plain).keypoints is None
    data = open_dataset(tmp_path / "d", settings.model_copy(update={"keypoints": True}), Normalization("none"))
    found, facts = objects_of(data, 0), object_facts(data)
    assert found.keypoints is not None
    assert found.keypoints.tolist() == [[[3, 3, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert found.dropped == ("annotation 1 (1 of its keypoints lie outside the image)",)
    assert facts.keypoints is not None
    assert facts.keypoints.swaps == ((0, 1),)
    assert facts.with_keypoints == 1
    (tmp_path / "d" / "keypoints.json").unlink()
    with pytest.raises(InputError, match="no COCO file here names keypoints"):
        open_dataset(tmp_path / "d", settings.model_copy(update={"keypoints": True}), Normalization("none"))


def test_classes_with_different_keypoints_are_refused_only_where_keypoints_are_wanted(tmp_path: Path) -> None:
    kinds = [{"id": 3, "name": "fish", "keypoints": ["tail"]}, {"id": 4, "name": "bird", "keypoints": ["beak", "tail"]}]
    data = coco(tmp_path / "d", annotation(1, [rectangle(2, 2, 5, 5)], keypoints=[3, 3, 2]),
                annotation(2, [rectangle(9, 2, 5, 5)], category=4), categories=kinds)
    assert len(objects_of(data, 0)) == 2
    assert objects_of(data, 0).keypoints is None
    with pytest.raises(LabelsError, match=r"different keypoints: fish \(1\), bird \(2\)"):
        object_facts(data)


def test_500_objects(tmp_path: Path) -> None:
    squares = [annotation(1 + n, [rectangle(n % 25 + 0.25, n // 25 + 0.25, 1.5, 1)]) for n in range(500)]
    data = coco(tmp_path / "d", *squares)
    found = objects_of(data, 0)
    assert len(found) == 500
    assert found.dropped == ()
    assert object_facts(data).per_image == (500, 500.0, 500)


ids = st.integers(0, 4)


@given(st.data(), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_ids_become_objects_with_their_classes(data: st.DataObject, size: tuple[int, int]) -> None:
    array = np.array(data.draw(st.lists(ids, min_size=size[0] * size[1], max_size=size[0] * size[1])), np.int32).reshape(size)
    array[array > 2] += 2**20
    present = [int(v) for v in np.unique(array) if v]
    classes = {v: data.draw(st.integers(0, 2), label=f"class of {v}") for v in present}
    ignore = np.array(data.draw(st.lists(st.booleans(), min_size=array.size, max_size=array.size))).reshape(size)
    known = np.where(ignore, 0, array)
    found = labelled_objects(Labels(array, "instances", "a", Legend.of_values([0, 1, 2]), ignore, classes=classes))
    masks = pasted(found)
    objects = [k for k, v in enumerate(found.ids) if v]
    assert sorted(found.ids[objects]) == sorted(int(v) for v in np.unique(known) if v)
    for k in objects:
        np.testing.assert_array_equal(masks[k], known == found.ids[k])
        given_class = classes[int(found.ids[k])]
        assert (found.classes[k], found.crowd[k]) == ((given_class, False) if given_class else (1, True))
    rest = [k for k in range(len(found)) if k not in objects]
    assert found.crowd[rest].all()
    np.testing.assert_array_equal(masks[rest].sum(0), ignore.astype(int))
    for box, mask, crop in zip(found.boxes, masks, found.masks, strict=True):
        assert crop is not None
        assert list(box) == extents(mask) == list(box_of(crop))
    assert len(found.dropped) == sum(classes[int(found.ids[k])] == 0 for k in objects)


def test_objects_without_a_class_among_others_are_ignored() -> None:
    drawn = ((1, "cell"), (6, ""), (11, "dust"))
    shapes = tuple(Shape((np.array(rectangle(x, 2, 3, 3)).reshape(-1, 2),), name) for x, name in drawn)
    found = drawn_objects(Annotations(shapes), SIZE, {"cell": 1, "dust": 2})
    assert (found.classes.tolist(), found.crowd.tolist()) == ([1, 1, 2], [False, True, False])
    assert found.dropped == ("object 2 (it has no class; it is ignored, neither learnt nor background)",)


def labelled_folder(folder: Path, array: np.ndarray, **settings: Any) -> Dataset:
    from PIL import Image

    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(np.zeros(array.shape[-2:], np.uint8)).save(folder / "images" / "1.png")
    write_mask(folder / "masks" / "1.tif", array.astype(np.uint8), Legend.of_values(np.unique(array).tolist()))
    return open_dataset(folder, DataSettings(**settings), Normalization("none"))


def test_label_images_and_what_is_no_instance(tmp_path: Path) -> None:
    array = np.zeros((12, 14), int)
    array[2:5, 3:9], array[7:9, 1:3], array[10, 10] = 5, 9, 9
    found = objects_of(labelled_folder(tmp_path / "a", array, kind="instances"), 0)
    assert found.boxes.tolist() == [[3, 2, 9, 5], [1, 7, 11, 11]]
    assert found.ids.tolist() == [5, 9]
    with pytest.raises(LabelsError, match="labels of kind classes do not tell objects apart"):
        objects_of(labelled_folder(tmp_path / "b", array, kind="classes"), 0)


def test_volumes_are_refused(tmp_path: Path) -> None:
    import tifffile

    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        values = np.zeros((5, 8, 9), np.uint8)
        values[2:4, 2:4, 2:5] = 1
        tifffile.imwrite(tmp_path / name / "1.tif", values, metadata={"axes": "ZYX"})
    data = open_dataset(tmp_path, DataSettings(kind="instances"), Normalization("none"))
    with pytest.raises(SizeError, match="takes plane images"):
        objects_of(data, 0)


def test_facts_of_objects(tmp_path: Path) -> None:
    squares = [annotation(1 + n, [rectangle(5 * (n % 5), 2 if n < 5 else 9, 4, 2)], image=1 + n % 2) for n in range(6)]
    run = {"size": list(SIZE), "counts": [3, 9, 588]}
    data = coco(tmp_path / "d", *squares, annotation(20, run, iscrowd=1), count=3)
    facts = object_facts(data)
    assert (facts.images, facts.looked_at, facts.objects, facts.crowds) == (3, 3, 6, 1)
    assert facts.per_image == (3, 3.0, 3)
    assert facts.classes == {"cell": 6}
    np.testing.assert_allclose(facts.sides, 8**0.5)
    np.testing.assert_allclose(facts.aspects, 0.5)
    assert facts.smallest == 8


def test_the_smallest_objects_are_measured_in_pixels_not_in_boxes(tmp_path: Path) -> None:
    """Fibres aslant fill little of their boxes."""
    array = np.zeros((12, 30), int)
    array[np.arange(10), np.arange(10)], array[np.arange(10), np.arange(10) + 15] = 1, 2
    facts = object_facts(labelled_folder(tmp_path, array, kind="instances"))
    assert facts.sides[0] == facts.smallest == 10
