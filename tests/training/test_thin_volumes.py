"""Volumes of a few planes train like others: in bfloat16 their gradients became NaN on the CPU."""

import numpy as np
import pytest
import tifffile

from biomask import api


@pytest.mark.slow
@pytest.mark.parametrize("planes", [2, 3, 5])
def test_a_few_planes(tmp_path, planes):
    for i in range(3):
        rng = np.random.default_rng(i)
        grey, truth = rng.integers(0, 255, (planes, 24, 24)), rng.integers(0, 2, (planes, 24, 24)) * 255
        for side, array in (("images", grey), ("masks", truth)):
            (tmp_path / side).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / side / f"{i}.tif", array.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    for seed in range(3):
        settings = ("network.options.width=8", "network.options.depth=1", "network.options.norm=null", "training.batch=2")
        result = api.train(tmp_path, tmp_path.parent / f"{tmp_path.name} {seed}", api.TrainOptions(
            settings=settings, steps=6, seed=seed, device="cpu"))
        rows = (result.model / "log.csv").read_text(encoding="utf-8")
        assert "nan" not in rows
