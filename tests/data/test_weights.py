"""How often each image is drawn."""

import numpy as np
import pytest

from biomask import api
from biomask.data.dataset import open_dataset
from biomask.io.files import write_picture
from biomask.recipe import DataSettings
from biomask.transforms import Normalization


@pytest.fixture
def data(tmp_path):
    """Six dark images, one bright one of four times the pixels, with a square each."""
    for i in range(7):
        side = 64 if i == 6 else 32
        rng = np.random.default_rng(i)
        image = rng.integers(0, 30, (side, side))
        image[4:12, 4:12] = 255
        if i == 6:
            image = 255 - image
        mask = np.zeros((side, side), np.uint8)
        mask[4:12, 4:12] = 255
        write_picture(tmp_path / "images" / f"{'abcdefg'[i]}.png", image.astype(np.uint8))
        write_picture(tmp_path / "masks" / f"{'abcdefg'[i]}.png", mask)
    return tmp_path


def test_rare_kinds_of_images_are_drawn_more_often_and_large_ones_by_their_root(data):
    facts = open_dataset(data, DataSettings(), Normalization()).facts
    assert facts.looks == ("dark",) * 6 + ("bright",)
    weights = np.array(facts.weights)
    assert weights[:6] == pytest.approx(weights[0])
    # Twice for the root of four times the pixels, and the root of 6 for being the only one of its kind.
    assert weights[6] / weights[0] == pytest.approx(2 * 6**0.5)


def test_a_subset_counts_its_own_kinds(data):
    whole = open_dataset(data, DataSettings(), Normalization())
    weights = whole.subset([0, 6]).facts.weights
    assert weights[1] / weights[0] == pytest.approx(2)


def test_it_is_said(data, tmp_path, capsys):
    from biomask.cli import main

    assert main(["train", str(data), "-o", f"{tmp_path}-model", "--steps", "2", "--set", "network.options.width=2", "--set",
                 "network.options.depth=1", "--set", "training.patch=[16,16]"]) == 0
    assert "rare kinds of images are drawn more often" in capsys.readouterr().err
    assert api.load(f"{tmp_path}-model").classes == 2
