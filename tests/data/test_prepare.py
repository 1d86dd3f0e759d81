"""A batch and its targets are the same however many threads make them."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from biomask.data import prepare as prepare_module
from biomask.data.draws import PatchGeometry
from biomask.data.patches import Sampling
from biomask.data.prepare import prepare
from biomask.data.task import Task
from biomask.recipe import AugmentationSettings, InstanceSettings


class Objects:
    """A stand-in for a data set: squares of 6 px on a grid that touch in pairs."""

    def __init__(self):
        ids = np.zeros((64, 64), np.int32)
        for n, (y, x) in enumerate((y, x) for y in range(2, 58, 8) for x in range(2, 58, 6)):
            ids[y:y + 6, x:x + 6] = n + 1
        self.labels = np.stack([ids, (ids > 0).astype(np.int32)])
        self.image = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
        self.facts = SimpleNamespace(sizes=((64, 64),))

    def item(self, i):
        return self.image, self.labels, None


def made(monkeypatch, small):
    monkeypatch.setattr(prepare_module, "SMALL", small)
    augmentation = AugmentationSettings(warp=0.5, intensity=0.5, blur=0.5, noise=0.5)
    sampling = Sampling(3, PatchGeometry((32, 32), (0, 0)), augmentation)
    return prepare(Objects(), sampling, range(8, 14), torch.device("cpu"), Task("instances", 2), InstanceSettings())


def test_the_number_of_threads_changes_nothing(monkeypatch):
    before = torch.get_num_threads()
    batch, targets = made(monkeypatch, small=2**18)
    other_batch, other_targets = made(monkeypatch, small=0)
    assert torch.equal(batch.images, other_batch.images)
    assert torch.equal(batch.labels, other_batch.labels)
    assert targets.distance.max() == 1
    for field in fields(targets):
        one, other = getattr(targets, field.name), getattr(other_targets, field.name)
        assert (one is None and other is None) or torch.equal(one, other)
    assert torch.get_num_threads() == before


def test_the_threads_come_back_after_an_error(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(Objects, "item", lambda self, i: 1 / 0)
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            made(monkeypatch, small=2**18)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
