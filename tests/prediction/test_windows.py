"""How large a detector's windows are: those of the training, or what --memory has room for."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from biomask.checkpoint import Model, ModelHeader
from biomask.errors import InputError
from biomask.image import Image
from biomask.labels import Legend
from biomask.models import MaskRCNN
from biomask.prediction import windows
from biomask.prediction.options import PredictOptions
from biomask.prediction.windows import window_bytes, window_for
from biomask.prediction.work import Work
from biomask.recipe import NetworkSettings, Recipe, TrainingSettings


def network(**options) -> MaskRCNN:
    usual = {"backbone": "resnet18", "width": 4, "channels": 4, "head": 4, "norm": "none", "short_side": None, "long_side": None,
             "limits": {"proposals": 10, "detections": 5}}
    return MaskRCNN(1, 2, **{**usual, **options}).eval()


def work(patch=None, net=None, **options) -> Work:
    recipe = Recipe(name="r", network=NetworkSettings(name="mask-rcnn"), training=TrainingSettings(patch=patch))
    header = ModelHeader(recipe=recipe, in_channels=1, spatial_dims=2, kind="instances", legend=Legend.of_values([0, 1]).to_json())
    net = net or network()
    return Work(Model(net, header, None), net, torch.device("cpu"), PredictOptions(**options), ())


IMAGE = Image(np.zeros((1, 400, 300), np.uint8), "cyx", "i")


@pytest.mark.parametrize(("patch", "tile", "expected"), [
    (None, None, (400, 300)), ((128, 96), None, (128, 96)), ((128, 96), "auto", (128, 96)), ((128, 96), "whole", (400, 300)),
    ((128, 96), 200, (200, 200)), (None, 64, (64, 64))])
def test_are_those_of_the_training_unless_told(patch, tile, expected):
    assert window_for(work(patch, tile=tile), IMAGE, IMAGE.size) == expected


def test_become_smaller_where_memory_is_short(monkeypatch):
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0)))
    monkeypatch.setattr(windows, "output_bytes", lambda *_: 0)
    net = network()
    room = window_bytes(net, (200, 150)) / (1 - windows.RESERVE) + 1
    assert window_for(work(net=net, memory=int(room)), IMAGE, IMAGE.size) == (200, 150)
    assert window_for(work(net=net, memory=10**10), IMAGE, IMAGE.size) == (400, 300)
    least = window_bytes(net, (64, 64)) / (1 - windows.RESERVE)
    with pytest.raises(InputError, match="a window of 64 x 64") as error:
        window_for(work(net=net, memory=int(least) - 1000), IMAGE, IMAGE.size)
    assert "--memory" in str(error.value.fix)


def test_smaller_ones_do_not_help_a_detector_that_enlarges_them(monkeypatch):
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0)))
    net = network(short_side=96, long_side=128)
    with pytest.raises(InputError, match="whatever its size: the detector brings each to 96 pixels"):
        window_for(work(net=net, memory=1000), IMAGE, IMAGE.size)


def test_bytes_grow_with_what_the_network_sees():
    net = network()
    assert window_bytes(net, (256, 256)) > window_bytes(net, (128, 128)) > window_bytes(net, (64, 64))
    with net.with_limits({"detections": 100}):
        assert window_bytes(net, (64, 64)) > 2 * 4 * 95 * 4 * 14**2
