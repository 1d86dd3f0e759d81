"""Detectors train, resume bit for bit, begin with other weights and refuse what they cannot learn, by the loop of all networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from safetensors.numpy import load_file
from tests.training.conftest import write_objects

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import BiomaskError, LabelsError, UsageError
from biomask.io.files import write_picture
from biomask.models import MaskRCNN
from biomask.models.backbones import FrozenBatchNorm
from biomask.prediction.detect import detect_image
from biomask.training import guard, loop
from biomask.training.detection_begin import settle_eps
from biomask.training.detection_score import DetectionJudge
from biomask.training.objective import Score

#: A step takes a few hundredths of a second.
TINY = ("network.options.width=4", "network.options.channels=8", "network.options.head=16", "training.batch=2",
        "training.patch=[32, 32]", "training.validations=2",
        "network.options.limits={proposals: 50, proposals_training: 50, rpn_samples: 32, samples: 32, detections: 20}")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: Any) -> Path:
    """A data folder of six images of discs and their ids."""
    return write_objects(tmp_path_factory.mktemp("discs") / "data")


@pytest.fixture
def train() -> Callable[..., api.TrainResult]:
    def run(data: Path, out: Path, *settings: str, steps: int = 4, progress: Any = None, **options: Any) -> api.TrainResult:
        options = {"recipe": "mask-rcnn-small", **options}
        return api.train(data, out, api.TrainOptions(settings=(*TINY, *settings), steps=steps, device="cpu", **options),
                         progress=progress)

    return run


def test_trains_and_the_file_alone_predicts(discs, tmp_path, train, heard):
    """Frozen parts, buffers that are no tensors of the file, thresholds and classes: all that prediction needs is in it."""
    train(discs, tmp_path / "m", progress=heard)
    model = load_model(tmp_path / "m")
    assert model.is_detector
    assert model.header.kind == "instances"
    assert model.header.thresholds.keys() == {"score", "min_size"}
    pixels = [n for file in (discs / "masks").iterdir() for n in np.bincount(tifffile.imread(file).ravel())[1:]]
    assert model.header.thresholds["min_size"] == int(np.percentile(pixels, 1) / 4) > 1
    assert model.header.keypoints is None
    assert model.network.limits.detections == 20
    found = detect_image(model.network, np.random.default_rng(0).standard_normal((1, 40, 50)).astype(np.float32), tile=32)
    assert np.isfinite(found.boxes).all()
    assert any("anchors" in s for s in heard.said)
    assert any(s.startswith("estimate: about 4 steps of 2 images") for s in heard.said)


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(discs, tmp_path, train, monkeypatch):
    """With the average of the weights, sampled anchors and proposals, crops and changed looks."""
    train(discs, tmp_path / "straight", "augmentation.intensity=0.5", steps=6)
    own = loop.Trainer._step

    def killed(trainer: Any, fraction: float) -> None:
        if trainer.state.step == 4:
            raise KeyboardInterrupt
        own(trainer, fraction)

    monkeypatch.setattr(loop.Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(discs, tmp_path / "stopped", "augmentation.intensity=0.5", steps=6)
    monkeypatch.undo()
    train(discs, tmp_path / "stopped", "augmentation.intensity=0.5", steps=6)
    one, other = (load_file(tmp_path / n / "resume" / "state.safetensors") for n in ("straight", "stopped"))
    assert one.keys() == other.keys()
    assert [k for k in one if one[k].tobytes() != other[k].tobytes()] == []
    assert (tmp_path / "straight" / "model.safetensors").read_bytes() == (tmp_path / "stopped" / "model.safetensors").read_bytes()


def test_images_without_objects_train_every_parameter(discs, tmp_path, train):
    """Of a crop that holds nothing all heads have a gradient, if of zeros, as several processes need it."""
    data = write_objects(tmp_path / "data", count=4)
    for file in sorted((data / "masks").iterdir())[1:]:
        tifffile.imwrite(file, np.zeros((40, 40), np.uint16))
    seen, missing = list[set[str]](), list[set[str]]()  # parameters that a step gave a gradient, and those that it did not
    own = loop.Trainer._backward

    def backward(trainer: Any, *batch: Any, **options: Any) -> Any:
        seen.append(set())
        hooks = [p.register_post_accumulate_grad_hook(lambda _, n=n: seen[-1].add(n))
                 for n, p in trainer.network.named_parameters() if p.requires_grad]
        every = {n for n, p in trainer.network.named_parameters() if p.requires_grad}
        done = own(trainer, *batch, **options)
        for hook in hooks:
            hook.remove()
        missing.append(every - seen[-1])
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "_backward", backward)
        train(data, tmp_path / "m", "training.oversample=0", "data.unlabelled=background", steps=6)
    assert missing == [set()] * 6


def test_begins_with_published_weights_and_says_what_is_new(discs, tmp_path, train, heard):
    """A file of another number of classes: its predictors are new, all else is the file's."""
    kwargs = {"backbone": "resnet18", "width": 4, "channels": 8, "head": 16, "norm": "frozen"}
    torch.manual_seed(3)
    theirs = MaskRCNN(3, 91, **kwargs)
    torch.save(theirs.state_dict(), tmp_path / "coco.pth")
    own = ("network.options.backbone=resnet18", "network.options.norm=frozen", "training.lr=1e-9",
           "network.options.short_side=null", "network.options.long_side=null")
    result = train(discs, tmp_path / "m", *own, recipe="mask-rcnn-finetune", begin=tmp_path / "coco.pth", steps=2, progress=heard)
    assert result.step == 2
    said = "\n".join(heard.said)
    assert "tensors loaded" in said
    assert "roi_heads.box_predictor.cls_score" in said
    mine = load_model(tmp_path / "m").network.state_dict()
    name = "roi_heads.box_head.fc7.weight"
    assert torch.allclose(mine[name], theirs.state_dict()[name], atol=1e-5)
    assert mine["roi_heads.box_predictor.cls_score.weight"].shape[0] == 2
    frozen = "backbone.body.layer1.0.conv1.weight"
    assert torch.equal(mine[frozen], theirs.state_dict()[frozen])
    plain = ("training.batch=2", "training.patch=[32, 32]", "training.validations=1")
    api.train(discs, tmp_path / "n", api.TrainOptions("mask-rcnn-small", plain, steps=2, device="cpu", begin=tmp_path / "m"))
    assert load_model(tmp_path / "n").header.recipe.network.options["norm"] == "frozen"


def test_another_eps_computes_the_same_after_it_was_settled():
    layer = FrozenBatchNorm(3, eps=0.0)
    layer.running_var.copy_(torch.tensor([0.5, 1e-3, 4.0]))
    x = torch.randn(2, 3, 4, 4)
    before = layer(x)
    settle_eps(layer)
    assert layer.eps == 1e-5
    assert torch.allclose(layer(x), before, rtol=1e-5)


def test_keypoints_are_learnt_and_named_in_the_model(tmp_path, train, write_coco_points):
    train(write_coco_points(tmp_path / "data"), tmp_path / "m", "network.options.masks=false")
    header = load_model(tmp_path / "m").header
    assert header.keypoints.names == ("nose", "left_eye", "right_eye")
    assert header.keypoints.swaps == ((1, 2),)
    assert header.recipe.network.options["keypoints"] == 3


@pytest.fixture
def write_coco_points() -> Callable[[Path], Path]:
    """Writes images of discs with three keypoints each, as COCO json."""
    def write(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        images, annotations = [], []
        for i in range(4):
            grey = rng.normal(60, 5, (40, 40))
            for _ in range(3):
                x, y = rng.integers(4, 26, 2).tolist()
                grey[y:y + 10, x:x + 10] = 180
                annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 1, "bbox": [x, y, 10, 10],
                                    "area": 100, "iscrowd": 0, "segmentation": [[x, y, x + 10, y, x + 10, y + 10, x, y + 10]],
                                    "keypoints": [x + 5, y + 5, 2, x + 2, y + 2, 2, x + 8, y + 2, 1], "num_keypoints": 3})
            write_picture(folder / "images" / f"{i}.png", grey.clip(0, 255).astype(np.uint8))
            images.append({"id": i, "file_name": f"{i}.png", "width": 40, "height": 40})
        categories = [{"id": 1, "name": "mouse", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder

    return write


def test_labels_that_do_not_tell_objects_apart_are_refused_with_what_to_do(tmp_path, train, make_dataset):
    with pytest.raises(LabelsError, match="kind classes") as caught:
        train(make_dataset(tmp_path / "classes", n=3, size=(32, 32)), tmp_path / "m")
    assert "biomask convert" in (caught.value.fix or "")
    with pytest.raises(BiomaskError, match="volumes") as caught:
        train(make_dataset(tmp_path / "volumes", n=3, size=(16, 16), volume=True), tmp_path / "m")
    assert "--z each" in (caught.value.fix or "")
    assert not (tmp_path / "m" / "model.safetensors").exists()


def test_a_single_value_a_channel_is_refused(discs, tmp_path, train):
    with pytest.raises(UsageError, match="no variance"):
        train(discs, tmp_path / "m", "training.batch=1")


def test_folds_and_segmentation_weights_are_refused(discs, tmp_path, train):
    with pytest.raises(UsageError, match="--folds"):
        train(discs, tmp_path / "m", folds=2)
    small = ("network.options.width=2", "network.options.depth=1", "training.batch=2", "training.patch=[32, 32]",
             "training.validations=1", "prediction.augment=none")
    api.train(discs, tmp_path / "unet", api.TrainOptions(settings=small, steps=1, device="cpu"))
    with pytest.raises(UsageError, match="is no detector"):
        train(discs, tmp_path / "m", begin=tmp_path / "unet")


def test_a_training_that_finds_nothing_says_so(discs, tmp_path, train, monkeypatch):
    monkeypatch.setattr(guard, "STEPS", 3)
    monkeypatch.setattr(DetectionJudge, "score", lambda *_: Score(0.0, {}, barren=True))
    with pytest.raises(BiomaskError, match="no object is found") as caught:
        train(discs, tmp_path / "m", "training.lr=1e-9", "training.validations=6", "training.average=null", steps=12)
    assert "--overwrite" in str(caught.value)


@pytest.mark.slow
def test_two_processes_train_as_one(discs, tmp_path):
    """Each with half of the batch; every parameter takes part, and both end at the same weights."""
    settings = [part for s in (*TINY, "training.precision=float32") for part in ("--set", s)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "biomask", "train", str(discs), "-o",
               str(tmp_path / "m"), "--recipe", "mask-rcnn-small", "--steps", "3", "--device", "cpu", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "x 2 processes" in done.stdout + done.stderr
    assert all(np.isfinite(v).all() for v in load_file(tmp_path / "m" / "model.safetensors").values())
