"""The same weights, images and targets give what torchvision gives, and its files load."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.mask_rcnn import torchvision_reference as reference
from torch import Tensor

from biomask.models import load_torchvision
from biomask.models.mask_rcnn import MaskRCNN

#: Pythons that may have torchvision: this one and the system's own.
PYTHONS = (sys.executable, "/usr/bin/python3")


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of torchvision's answers; skips where no Python has it."""
    folder = tmp_path_factory.mktemp("torchvision")
    for python in PYTHONS:
        has = Path(python).exists() and subprocess.run([python, "-c", "import torchvision"], capture_output=True, check=False)
        if has and has.returncode == 0:
            subprocess.run([python, reference.__file__, str(folder)], check=True, capture_output=True)
            return folder
    pytest.skip("no Python here has torchvision")


def loaded(name: str, shapes: dict[str, tuple[int, ...]]) -> MaskRCNN:
    """Our network with the weights that the reference had."""
    limits = {"proposals": reference.PROPOSALS, "proposals_training": reference.PROPOSALS, "detections": reference.DETECTIONS,
              "rpn_samples": reference.ANCHOR_SAMPLES, "samples": reference.SAMPLES}
    options = {"short_side": reference.SHORT_SIDE, "long_side": 200, "limits": limits,
               **({"keypoints": reference.KEYPOINTS} if name.startswith("keypoint") else {})}
    weights = {n: torch.from_numpy(w) for n, w in reference.weights(shapes).items()}
    network, report = load_torchvision(name, weights, options=options)
    assert isinstance(network, MaskRCNN)
    assert (report.new, report.unused) == ((), ())
    return network


def first_of_each(matches: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """The reference's sampler without chance."""
    positive, negative = reference.first_of_each(matches.numpy(), count, share)
    return torch.from_numpy(positive), torch.from_numpy(negative)


@pytest.mark.parametrize("name", reference.CASES)
def test_detections_and_losses_are_those_of_torchvision(answers: Path, name: str) -> None:
    with np.load(answers / f"{name}.npz") as file:
        truth = dict(file)
    network = loaded(name, json.loads(str(truth["shapes"])))
    images = [torch.from_numpy(truth[f"image{n}"]) for n in range(2)]
    for label in ("single", "double") if name == reference.CASES[0] else ("double",):
        dtype = torch.float32 if label == "single" else torch.float64
        network = network.to(dtype).eval()
        with torch.no_grad():
            found = network([image.to(dtype) for image in images])
        for n, one in enumerate(found):
            assert len(one["scores"]) == reference.DETECTIONS
            assert np.ptp(truth[f"{label}{n}.scores"]) > 0.03
            for key, value in one.items():
                np.testing.assert_allclose(value.numpy(), truth[f"{label}{n}.{key}"], rtol=1e-4, atol=1e-4, err_msg=key)
    network.train()
    network.sample = first_of_each
    keys = ("boxes", "labels", "masks", "keypoints")
    losses = network(images, [{key: torch.from_numpy(truth[f"target{n}.{key}"]) for key in keys} for n in range(2)])
    assert {f"loss.{key}" for key in losses} == {key for key in truth if key.startswith("loss.")}
    for key, value in losses.items():
        np.testing.assert_allclose(value.detach().numpy(), truth[f"loss.{key}"], rtol=1e-6, err_msg=key)
    if "gradient" in truth:
        sum(losses.values()).backward()
        np.testing.assert_allclose(network.backbone.body.conv1.weight.grad.numpy(), truth["gradient"], rtol=1e-5,
                                   atol=1e-6 * np.abs(truth["gradient"]).max())
