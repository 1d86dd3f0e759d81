"""FCN-32s, 16s and 8s: counts, sums, zero and bilinear beginnings, VGG-16's weights from a file (specification, section 3)."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.models import FCN, load_weights
from biomask.models.blocks import parameter_count
from biomask.models.fcn import bilinear_kernel

#: VGG-16's convolutions, fc6 and fc7.
STEM = 14_714_688 + (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096)


@pytest.mark.parametrize(("stride", "skips"), [(32, ()), (16, (512,)), (8, (512, 256))])
@pytest.mark.parametrize("classes", [2, 21])
def test_parameters(stride, skips, classes):
    """Scores of 1x1 at each depth, and one learnt up-sampling of 4x4 for each sum."""
    scores = sum(channels * classes + classes for channels in (4096, *skips))
    with torch.device("meta"):
        network = FCN(3, classes, stride=stride)
        assert parameter_count(network) == STEM + scores + len(skips) * 16 * classes**2
    if classes == 21:
        assert parameter_count(network) == {32: 134_346_581, 16: 134_364_410, 8: 134_376_863}[stride]


def test_names_and_shapes_of_torchvision():
    """features.0, 2, 5, … 28 are the 13 convolutions, classifier.0 and .3 are fc6 and fc7."""
    state = FCN(3, 2, width=2).state_dict()
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [k for k in state if k.endswith("weight")][:15] == [
        *(f"features.{i}.weight" for i in convolutions), "classifier.0.weight", "classifier.3.weight"]
    assert state["classifier.0.weight"].shape == (128, 16, 7, 7)


def test_weights_of_vgg16_are_loaded_from_a_file(tmp_path):
    torch.manual_seed(0)
    network = FCN(3, 2, width=1).eval()
    vgg = {k: torch.randn_like(v) for k, v in network.state_dict().items() if k.startswith(("features", "classifier"))}
    rows = vgg["classifier.0.weight"].flatten(1)  # torchvision: a linear layer on 512 maps of 7 x 7
    linear = {**vgg, "classifier.0.weight": rows, "classifier.3.weight": vgg["classifier.3.weight"].flatten(1),
              "classifier.6.weight": torch.randn(1000, 64), "classifier.6.bias": torch.randn(1000)}
    torch.save(linear, tmp_path / "vgg16.pth")
    left = load_weights(network, tmp_path / "vgg16.pth")
    assert {name.split(".")[0] for name in left} == {"score_fc7", "score_pool4", "score_pool3", "upscore2", "upscore_pool4"}
    maps = torch.randn(1, 8, 7, 7)
    with torch.no_grad():
        fc6 = torch.relu(F.linear(maps.flatten(1), rows, vgg["classifier.0.bias"]))
        assert (network.classifier[:2](maps)[0, :, 3, 3] - fc6[0]).abs().max() < 1e-4


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_scores_begin_at_zero(stride):
    network = FCN(1, 3, width=1, stride=stride).eval()
    with torch.no_grad():
        assert not network(torch.randn(1, 1, 64, 64)).any()


def test_a_skip_adds_nothing_at_first():
    """FCN-16s begins as the FCN-32s that it is made of, up-sampled in two steps."""
    torch.manual_seed(0)
    fine = FCN(1, 2, width=1, stride=16).eval()
    with torch.no_grad():
        fine.score_fc7.weight.normal_()
        x = torch.randn(1, 1, 160, 160)
        before, scores = fine(x), []
        fine.score_fc7.register_forward_hook(lambda m, i, o: scores.append(o))
        assert torch.equal(before, fine(x))
        twice = F.conv_transpose2d(scores[0], bilinear_kernel(4)[None, None].expand(2, 1, 4, 4), stride=2, padding=1, groups=2)
        assert (before - F.interpolate(twice, scale_factor=16.0, mode="bilinear")).abs().max() < 1e-4 * before.abs().max()
        fine.score_pool4.bias.fill_(3.0)
        assert (fine(x) - before - 3).abs().max() < 1e-4 * before.abs().max().clamp(min=1)  # fusion is a sum


def test_learnt_up_sampling_begins_bilinear():
    """A ramp stays a ramp, and channels do not mix."""
    ramp = torch.linspace(0, 1, 5).expand(1, 2, 5, 5).clone()
    ramp[:, 1] = 0
    with torch.no_grad():
        doubled = FCN(1, 2, width=1).upscore2(ramp)
    assert (doubled[0, 0, 4, 1:-1] - (torch.arange(8) / 8 + 1 / 16)).abs().max() < 1e-6
    assert not doubled[0, 1].any()


@pytest.mark.parametrize("size", [3, 4, 16, 64])
def test_bilinear_kernel(size):
    """A constant stays a constant: the weights of each phase sum to 1."""
    kernel, stride = bilinear_kernel(size), (size + 1) // 2
    assert kernel.shape == (size, size)
    assert torch.equal(kernel, kernel.T)
    assert torch.equal(kernel, kernel.flip(0))
    for phase in range(stride):
        assert kernel[phase::stride].sum(0).sum() / kernel.sum() == pytest.approx(1 / stride)


def test_last_up_sampling_is_bilinear_and_fixed():
    network = FCN(1, 1, width=1, stride=32).eval()
    learnt = [n for n, p in network.named_parameters() if "up" in n]
    assert learnt == []
    scores = torch.randn(1, 1, 3, 4)
    network.score_fc7.register_forward_hook(lambda m, i, o: scores)
    with torch.no_grad():
        found = network(torch.zeros(1, 1, 96, 128))
    expected = zoom(scores[0, 0].numpy(), 32, order=1, grid_mode=True, mode="nearest")
    assert np.abs(found[0, 0].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("options", [{"stride": 4}, {"stride": "8"}, {"stride": None}])
def test_choices_that_do_not_exist(options):
    with pytest.raises(SizeError, match="stride"):
        FCN(3, 2, **options)
