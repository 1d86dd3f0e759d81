"""Attention U-Net, as released for volumes and in its 2D port: counts, gates, attention maps (specification, section 5)."""

import numpy as np
import pytest
import torch

from biomask.errors import SizeError
from biomask.io.files import read_image, write_picture
from biomask.models import AttentionUNet, GridAttentionUNet, UNet
from biomask.models.blocks import parameter_count


@pytest.mark.parametrize(("gates", "count"), [(0, 5_888_004), (1, 6_214_151), (2, 6_473_322)])
def test_parameters_as_released(gates, count):
    with torch.device("meta"):
        assert parameter_count(GridAttentionUNet(1, 4, gates=gates)) == count


def test_parameters_of_the_port():
    with torch.device("meta"):
        assert parameter_count(AttentionUNet(3, 2)) == 34_878_638
        assert parameter_count(UNet(3, 2, norm="batch", up="nearest-conv")) == 34_527_106
        assert parameter_count(UNet(3, 1, norm="batch", up="nearest-conv")) == 34_527_041


def test_open_gates_leave_the_u_net():
    """With all attention at 1 the port is the U-Net that it was made of."""
    torch.manual_seed(0)
    gated, plain = AttentionUNet(1, 2, width=2).eval(), UNet(1, 2, width=2, norm="batch", up="nearest-conv").eval()
    for gate in (gated.gate1, gated.gate2, gated.gate3, gated.gate4):
        gate.register_forward_hook(lambda m, i, o: torch.ones_like(o))
    theirs, own = gated.state_dict(), plain.state_dict()
    for k, v in own.items():
        part, level, rest = k.split(".", 2) if not k.startswith("head") else ("head", "", k.removeprefix("head."))
        name = {"encoder": f"conv{int(level or 0) + 1}.", "ups": f"up{int(level or 0) + 1}.",
                "decoder": f"decode{int(level or 0) + 1}.", "head": "head."}[part] + rest
        assert theirs[name].shape == v.shape
        own[k] = theirs[name]
    plain.load_state_dict(own)
    with torch.no_grad():
        x = torch.randn(1, 1, 32, 48)
        assert torch.equal(gated(x), plain(x))


@pytest.mark.parametrize(("build", "options", "count"), [
    (AttentionUNet, {}, 4), (AttentionUNet, {"spatial_dims": 3}, 4), (GridAttentionUNet, {}, 3),
    (GridAttentionUNet, {"gates": 2, "spatial_dims": 2}, 6), (GridAttentionUNet, {"gates": 0, "spatial_dims": 2}, 0)])
def test_attention_has_the_size_of_the_image(build, options, count):
    torch.manual_seed(0)  # of so few channels, some weights leave a gate without any input
    network = build(1, 2, width=4, **options)
    size = (5, 20, 33)[-network.spatial_dims:]
    with torch.no_grad():
        maps = network.eval().attention(torch.randn(2, 1, *size))
    assert len(maps) == count
    for found in maps:
        assert found.shape == (2, 1, *size)
        assert 0 <= found.min() <= found.max() <= 1
        assert found.std() > 0


def test_attention_multiplies_its_skip():
    """Closed gates hide the skip: then nothing of the finest level but what was pooled reaches the output."""
    torch.manual_seed(0)
    network = AttentionUNet(1, 2, width=2).eval()
    seen = []
    network.decode1.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    network.gate1.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
    with torch.no_grad():
        network(torch.randn(1, 1, 16, 16))
    assert not seen[0][:, :2].any()
    assert seen[0][:, 2:].any()


def test_the_topmost_skip_is_not_gated_as_released():
    network = GridAttentionUNet(1, 2, width=2)
    assert not hasattr(network, "gate1")
    assert network.gate2.gates[0].theta.stride == (2, 2, 2)
    assert network.gate2.gates[0].theta.bias is None


def test_attention_becomes_an_image(tmp_path):
    network = AttentionUNet(1, 2, width=2).eval()
    with torch.no_grad():
        attention = network.attention(torch.randn(1, 1, 24, 40))[0][0, 0].numpy()
    grey = np.round(255 * attention).astype(np.uint8)
    write_picture(tmp_path / "attention.png", grey)
    assert np.array_equal(read_image(tmp_path / "attention.png").array[0], grey)


def test_choices_that_do_not_exist():
    with pytest.raises(SizeError, match="gates=3"):
        GridAttentionUNet(1, 2, gates=3)
