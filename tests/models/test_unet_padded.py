"""The U-Net of the PyTorch repositories: counts, checkpoints, padding before concatenation (specification, 1.9)."""

import pickle

import pytest
import torch
from torch.nn import functional as F

from biomask.errors import MissingPathError, ModelFileError
from biomask.models import PaddedUNet, UNet, load_weights
from biomask.models.blocks import parameter_count


@pytest.mark.parametrize(("channels", "classes", "options", "count"), [
    (3, 2, {}, 31_037_698), (1, 2, {}, 31_036_546), (1, 1, {}, 31_036_481), (3, 1, {}, 31_037_633),
    (3, 2, {"bilinear": True}, 17_263_042), (1, 2, {"bilinear": True}, 17_261_890), (1, 1, {"bilinear": True}, 17_261_825),
    (3, 1, {"bilinear": True}, 17_262_977), (1, 1, {"bias": True}, 31_042_369), (3, 2, {"bias": True}, 31_043_586)])
def test_parameters(channels, classes, options, count):
    with torch.device("meta"):
        assert parameter_count(PaddedUNet(channels, classes, **options)) == count


@pytest.fixture
def checkpoint() -> dict[str, torch.Tensor]:
    """Tensors as milesial/Pytorch-UNet names them, at an eighth of the width: written down from its modules, not from ours."""
    state, width = {}, 8

    def double(prefix, channels, out, mid=None):
        mid = mid or out
        for index, (a, b) in ((0, (channels, mid)), (3, (mid, out))):
            state[f"{prefix}.double_conv.{index}.weight"] = torch.randn(b, a, 3, 3)
            for name in ("weight", "bias", "running_mean"):
                state[f"{prefix}.double_conv.{index + 1}.{name}"] = torch.randn(b)
            state[f"{prefix}.double_conv.{index + 1}.running_var"] = torch.rand(b) + 0.5
            state[f"{prefix}.double_conv.{index + 1}.num_batches_tracked"] = torch.tensor(7)

    double("inc", 3, width)
    for level in range(1, 5):
        double(f"down{level}.maxpool_conv.1", width * 2 ** (level - 1), width * 2**level)
    for step in range(1, 5):
        out = width * 2 ** (4 - step)
        state[f"up{step}.up.weight"], state[f"up{step}.up.bias"] = torch.randn(2 * out, out, 2, 2), torch.randn(out)
        double(f"up{step}.conv", 2 * out, out)
    state["outc.conv.weight"], state["outc.conv.bias"] = torch.randn(2, width, 1, 1), torch.randn(2)
    return state


def test_a_checkpoint_of_that_repository_fits_whole(tmp_path, checkpoint):
    torch.save({**checkpoint, "mask_values": [0, 255]}, tmp_path / "checkpoint_epoch5.pth")
    network = PaddedUNet(3, 2, width=8)
    assert load_weights(network, tmp_path / "checkpoint_epoch5.pth") == ()
    assert set(network.state_dict()) == set(checkpoint)
    assert all(torch.equal(v, checkpoint[k]) for k, v in network.state_dict().items())


def test_a_checkpoint_of_several_devices(tmp_path, checkpoint):
    torch.save({"state_dict": {f"module.{k}": v for k, v in checkpoint.items()}}, tmp_path / "c.pth")
    assert load_weights(PaddedUNet(3, 2, width=8), tmp_path / "c.pth") == ()


def test_other_classes_leave_the_last_layer(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "c.pth")
    assert load_weights(PaddedUNet(3, 5, width=8), tmp_path / "c.pth") == ("outc.conv.bias", "outc.conv.weight")


class Attack:
    def __reduce__(self):
        return print, ("code ran",)


def test_nothing_but_tensors_is_unpickled(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"inc": Attack()}))
    with pytest.raises(ModelFileError, match=r"evil\.pth"):
        load_weights(PaddedUNet(1, 1, width=1), tmp_path / "evil.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], {"mask_values": [0]}, {"strange": torch.zeros(3)}])
def test_files_without_fitting_tensors(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(ModelFileError):
        load_weights(PaddedUNet(1, 1, width=1), tmp_path / "c.pth")


def test_no_file(tmp_path):
    with pytest.raises(MissingPathError):
        load_weights(PaddedUNet(1, 1, width=1), tmp_path / "none.pth")


def test_equals_the_plain_u_net_where_16_divides_the_size():
    """Where nothing is padded the two are one network; tensors correspond in their order."""
    torch.manual_seed(0)
    padded, plain = PaddedUNet(2, 3, width=2).eval(), UNet(2, 3, width=2, norm="batch", bias=False).eval()
    theirs, state = padded.state_dict(), plain.state_dict()
    ups = [[k for k in theirs if k.startswith(f"up{4 - i}.")] for i in range(4)]
    names = {f"encoder.{i}.": [k for k in theirs if k.startswith("inc." if i == 0 else f"down{i}.")] for i in range(5)}
    names |= {f"ups.{i}.": [k for k in ups[i] if ".up." in k] for i in range(4)}
    names |= {f"decoder.{i}.": [k for k in ups[i] if ".conv." in k] for i in range(4)}
    names["head."] = ["outc.conv.weight", "outc.conv.bias"]
    for prefix, keys in names.items():
        for own, key in zip([k for k in state if k.startswith(prefix)], keys, strict=True):
            state[own] = theirs[key]
    plain.load_state_dict(state)
    with torch.no_grad():
        x = torch.randn(1, 2, 32, 48)
        assert torch.equal(padded(x), plain(x))
        odd = torch.randn(1, 2, 33, 49)
        assert not torch.allclose(padded(odd), plain(odd))


def test_what_pooling_dropped_is_padded_with_zeros_at_the_end():
    network = PaddedUNet(1, 1, width=1).eval()
    seen = []
    network.up4.conv.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    with torch.no_grad():
        network(torch.randn(1, 1, 33, 32))
    raised = seen[0][:, 1:]
    assert raised.shape[2:] == (33, 32)
    assert not raised[..., 32, :].any()
    assert raised[..., 31, :].any()


def test_bilinear_up_sampling_has_aligned_corners():
    network = PaddedUNet(1, 1, width=2, bilinear=True).eval()
    seen = []
    network.up4.conv.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    network.up3.conv.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        network(torch.randn(1, 1, 32, 32))
    below, joined = seen
    assert torch.equal(joined[:, 2:], F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=True))
    assert not network.exact_tiling
