"""UNet++: counts of L1 to L4, links of the nodes, deep supervision and pruning (specification, section 4)."""

import pytest
import torch
from torch import nn

from biomask.errors import SizeError
from biomask.models import UNet, UNetPlusPlus
from biomask.models.blocks import parameter_count
from biomask.models.unet_plus_plus import mean_of_heads


@pytest.mark.parametrize(("options", "count"), [
    ({"depth": 1}, 100_961), ({"depth": 2}, 511_105), ({"depth": 3}, 2_204_961), ({}, 9_041_601),
    ({"deep_supervision": True}, 9_041_700), ({"depth": 2, "deep_supervision": True}, 511_138),
    ({"depth": 3, "deep_supervision": True}, 2_205_027), ({"in_channels": 3}, 9_041_601 + 576),
    ({"spatial_dims": 3, "deep_supervision": True}, 26_198_372),
    ({"in_channels": 3, "norm": "batch", "up": "aligned"}, 9_163_329),
    ({"in_channels": 3, "norm": "batch", "up": "aligned", "deep_supervision": True}, 9_163_428),
    ({"in_channels": 3, "classes": 2, "width": 64, "norm": "batch", "up": "aligned"}, 36_629_698)])
def test_parameters(options, count):
    with torch.device("meta"):
        assert parameter_count(UNetPlusPlus(**{"in_channels": 1, "classes": 1, **options})) == count


@pytest.mark.parametrize(("width", "up_width", "count"), [(32, None, 7_759_521), (35, None, 9_282_246), (35, 32, 9_130_476)])
def test_parameters_of_the_nets_it_is_compared_with(width, up_width, count):
    with torch.device("meta"):
        assert parameter_count(UNet(1, 1, width=width, up_width=up_width)) == count


def network_of(**options) -> UNetPlusPlus:
    torch.manual_seed(0)
    return UNetPlusPlus(2, 3, **{"width": 2, "deep_supervision": True, **options}).eval()


def test_every_node_of_figure_1_has_its_links():
    """Node (i, j) gets j maps of its own row and one from below, j + 1 in all; the row above it keeps its channels."""
    network = network_of()
    assert set(network.nodes) == {f"x{i}{j}" for i in range(5) for j in range(5 - i)}
    for key, node in network.nodes.items():
        i, j, width = int(key[1]), int(key[2]), 2 * 2 ** int(key[1])
        convolutions = [m for m in node if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == 2
        assert convolutions[0].in_channels == ((j + 1) * width if j else 2 if i == 0 else width // 2)
    assert set(network.ups) == {f"x{i}{j}" for i in range(4) for j in range(1, 5 - i)}


def test_a_map_reaches_the_nodes_right_of_it_and_above_them():
    """x(2, 1) is read by x(2, 2) and, up-sampled, by x(1, 2): zeroed, just what depends on those two changes."""
    network = network_of()
    maps = {}
    for key, node in network.nodes.items():
        node.register_forward_hook(lambda m, i, o, key=key: maps.__setitem__(key, o))
    x = torch.randn(1, 2, 32, 32)
    with torch.no_grad():
        network(x)
        before = dict(maps)
        network.nodes["x21"].register_forward_hook(lambda m, i, o: torch.zeros_like(o))
        network(x)
    changed = {k for k, v in maps.items() if not torch.equal(v, before[k])} - {"x21"}
    assert changed == {"x22", "x12", "x13", "x03", "x04"}


def test_modes():
    network = network_of()
    x = torch.randn(2, 2, 32, 48)
    with torch.no_grad():
        heads = network.train()(x)
        assert isinstance(heads, tuple)
        assert len(heads) == 4
        accurate = network.eval()(x)
        network.mode = "fast"
        assert torch.equal(network(x), heads[-1])
        assert torch.equal(accurate, torch.stack(heads).mean(0))
        assert not torch.allclose(accurate, heads[-1])


@pytest.mark.parametrize(("average", "probability"), [("softmax", lambda x: x.softmax(1)), ("sigmoid", torch.sigmoid)])
def test_probabilities_of_the_mean_are_the_mean_of_probabilities(average, probability):
    heads = tuple(8 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(k)) for k in range(4))
    expected = torch.stack([probability(h) for h in heads]).mean(0)
    assert (probability(mean_of_heads(heads, average)) - expected).abs().max() < 1e-6
    assert (probability(mean_of_heads(heads, "logits")) - expected).abs().max() > 1e-2


def test_the_mean_where_only_some_channels_exclude_each_other():
    """Two classes, then a distance and a border, which are sigmoids of their own."""
    heads = tuple(8 * torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(k)) for k in range(3))
    found = mean_of_heads(heads, 2)
    assert (found[:, :2].softmax(1) - torch.stack([h[:, :2].softmax(1) for h in heads]).mean(0)).abs().max() < 1e-6
    assert (found[:, 2:].sigmoid() - torch.stack([h[:, 2:].sigmoid() for h in heads]).mean(0)).abs().max() < 1e-6
    assert torch.equal(mean_of_heads(heads, 0), mean_of_heads(heads, "sigmoid"))
    assert torch.equal(mean_of_heads(heads, 4), mean_of_heads(heads, "softmax"))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_pruned_accurate_is_the_mean_of_the_heads_that_are_left(depth):
    network = network_of(average="softmax")
    pruned = network.prune(depth, mode="accurate")
    assert pruned.depths == tuple(range(1, depth + 1))
    assert set(pruned.nodes) == {f"x{i}{j}" for i in range(depth + 1) for j in range(depth + 1 - i)}
    x = torch.randn(1, 2, 16, 48)
    with torch.no_grad():
        heads = network.train()(x)
        assert torch.equal(pruned.eval()(x), mean_of_heads(heads[:depth], "softmax") if depth > 1 else heads[0])


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"spatial_dims": 3}, {"up": "aligned"}])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_pruned_equals_unpruned_bit_for_bit(options, depth):
    network = network_of(**options)
    pruned = network.prune(depth)
    assert set(pruned.nodes) == {f"x{i}{j}" for i in range(depth + 1) for j in range(depth + 1 - i)}
    for size in ([16, 32, 16], [7, 21, 33]):  # also sizes that are padded inside
        x = torch.randn(1, 2, *size[-network.spatial_dims:])
        with torch.no_grad():
            heads = network.train()(x) if options.get("norm") is None else None
            if heads is None:  # batch normalisation has to stay in evaluation
                network.eval()
                seen = []
                hook = network.heads[f"x0{depth}"].register_forward_hook(lambda m, i, o, seen=seen: seen.append(o))
                network(x)
                hook.remove()
                head = seen[0][..., : x.shape[-2], : x.shape[-1]]
            else:
                head = heads[depth - 1]
            assert torch.equal(pruned(x), head)


def test_pruning_leaves_the_network_and_owns_its_weights():
    network = network_of()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    pruned = network.prune(2)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_pruned_counts_are_the_papers(depth):
    with torch.device("meta"):
        network = UNetPlusPlus(1, 1, deep_supervision=True)
        pruned = UNetPlusPlus(1, 1, depth=depth, pad_depth=4)
    assert set(pruned.state_dict()) <= set(network.state_dict())
    assert parameter_count(pruned) == [100_961, 511_105, 2_204_961, 9_041_601][depth - 1]


def test_heads_that_are_not_there():
    with pytest.raises(SizeError, match="no head at depth 2"):
        network_of(deep_supervision=False).prune(2)
    with pytest.raises(SizeError, match="no head at depth 5"):
        network_of().prune(5)


def test_dropout_follows_each_convolution():
    network = network_of(dropout=0.5, depth=1)
    assert [type(m).__name__ for m in network.nodes["x00"]] == ["Conv2d", "ReLU", "Dropout"] * 2
    x = torch.randn(1, 2, 16, 16)
    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 9}, {"up": "nearest"}, {"norm": "instance"}, {"mode": "slow"},
                                     {"average": "median"}, {"deep_supervision": "yes"}, {"pad_depth": 1}, {"spatial_dims": 1}])
def test_choices_that_do_not_exist(options):
    with pytest.raises(SizeError):
        UNetPlusPlus(1, 1, **options)
