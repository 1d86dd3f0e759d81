"""The feature pyramid: names, counts, sizes, and its sum written out."""

import pytest
import torch

from biomask.errors import SizeError
from biomask.models.blocks import parameter_count
from biomask.models.mask_rcnn.fpn import FPN


def test_parameters_and_names():
    with torch.device("meta"):
        first, second = FPN((256, 512, 1024, 2048)), FPN((256, 512, 1024, 2048), version=2)
    convolutions = 256 * (256 + 512 + 1024 + 2048) + 4 * 256 * 256 * 9
    assert parameter_count(first) == convolutions + 8 * 256
    assert parameter_count(second) == convolutions + 8 * 2 * 256
    assert list(first.state_dict())[:3] == ["inner_blocks.0.0.weight", "inner_blocks.0.0.bias", "inner_blocks.1.0.weight"]
    assert {"layer_blocks.3.0.weight", "layer_blocks.3.1.running_mean"} <= set(second.state_dict())
    assert "layer_blocks.3.0.bias" not in second.state_dict()


def test_maps_are_added_from_coarse_to_fine():
    generator = torch.Generator().manual_seed(0)
    sizes = {"0": (13, 18), "1": (7, 9), "2": (4, 5)}
    features = {name: torch.randn(2, 3, *size, generator=generator) for name, size in sizes.items()}
    fpn = FPN((3, 3, 3), channels=3)
    with torch.no_grad():
        for module in fpn.modules():
            if isinstance(module, torch.nn.Conv2d):  # each hands on its input
                torch.nn.init.dirac_(module.weight)
        out = fpn(features)
    assert list(out) == ["0", "1", "2", "pool"]
    raised = features["2"]
    torch.testing.assert_close(out["2"], raised)
    assert torch.equal(out["pool"], out["2"][:, :, ::2, ::2])
    for name in ("1", "0"):
        height, width = sizes[name]
        rows, columns = ([i * raised.shape[axis] // n for i in range(n)] for axis, n in ((2, height), (3, width)))
        raised = features[name] + raised[:, :, rows][:, :, :, columns]
        torch.testing.assert_close(out[name], raised)


def test_second_version_normalises_alike_folded_or_not():
    fpn = FPN((4, 6), channels=5, version=2)
    for module in fpn.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data.uniform_(0.3, 2.0)
    features = {"0": torch.randn(2, 4, 10, 12), "1": torch.randn(2, 6, 5, 6)}
    with torch.no_grad():
        coarse = fpn.inner_blocks[1].eval()(features["1"])
        fine = fpn.inner_blocks[0].eval()(features["0"]) + coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        out = fpn.eval()(features)
        torch.testing.assert_close(out["0"], fpn.layer_blocks[0](fine), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(out["1"], fpn.layer_blocks[1](coarse), atol=1e-4, rtol=1e-4)
        fpn.train()(features)
    assert all(m.num_batches_tracked == 1 for m in fpn.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_wrong_choices_are_named():
    with pytest.raises(SizeError, match="version=3"):
        FPN((8, 16), version=3)
    with pytest.raises(SizeError, match="takes 2 maps, got 1"):
        FPN((8, 16), channels=4)({"0": torch.zeros(1, 8, 4, 4)})
