"""The pixel classifier of 2012: layer sizes, and dense equal to window by window (specification, section 2)."""

import pytest
import torch
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.models import SlidingWindow
from biomask.models.blocks import parameter_count
from biomask.models.sliding_window import scaled_tanh


def test_parameters():
    with torch.device("meta"):
        assert parameter_count(SlidingWindow(1, 2)) == 219_290


def test_layer_sizes_of_a_window():
    network = SlidingWindow(1, 2, width=1, hidden=1)
    sizes = []
    for layer in (network.conv1, network.conv2, network.conv3, network.conv4, network.hidden, network.head):
        layer.register_forward_hook(lambda m, i, o: sizes.extend([i[0].shape[-1], o.shape[-1]]))
    with torch.no_grad():
        network(torch.zeros(1, 1, 95, 95))
    assert sizes == [95, 92, 46, 42, 21, 18, 9, 6, 3, 1, 1, 1]
    assert network.margin == (47, 47)


def test_scaled_tanh_is_nearly_the_identity_at_one():
    assert scaled_tanh(torch.tensor([0.0, 1.0, -1.0, 50.0])).tolist() == pytest.approx([0, 1, -1, 1.7159], abs=1e-3)


def test_dense_equals_patchwise():
    torch.manual_seed(0)
    network = SlidingWindow(2, 3, width=4, hidden=5).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
        image = torch.randn(1, 2, 101, 99, dtype=torch.float64)
        dense = network(image)
        windows = image.unfold(2, 95, 1).unfold(3, 95, 1)  # (1, C, 7, 5, 95, 95)
        one_by_one = network(windows.permute(0, 2, 3, 1, 4, 5).reshape(35, 2, 95, 95)).reshape(7, 5, 3).permute(2, 0, 1)
    assert dense.shape == (1, 3, 7, 5)
    assert one_by_one.std() > 0.1
    assert (dense[0] - one_by_one).abs().max() <= 1e-6 * one_by_one.abs().max()


def test_the_patch_path_runs_on_windows_alone(monkeypatch):
    network = SlidingWindow(1, 2, width=1, hidden=1)
    dense, counted = F.conv2d, []

    def watched(*tensors, **options):
        counted.extend(options.values())  # of the dilated ones; modules give none by name
        return dense(*tensors, **options)

    monkeypatch.setattr(F, "conv2d", watched)
    with torch.no_grad():
        network(torch.zeros(1, 1, 95, 95))
        assert counted == []
        network(torch.zeros(1, 1, 95, 96))
    assert counted == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("size", [(94, 95), (95, 1)])
def test_images_smaller_than_the_window(size):
    with pytest.raises(SizeError, match="95 pixels"):
        SlidingWindow(1, 2, width=1, hidden=1)(torch.zeros(1, 1, *size))
