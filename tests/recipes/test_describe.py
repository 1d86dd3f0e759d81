"""Every recipe: its count, its work, its alias, and the command that lists them."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from biomask import api, cli, recipes
from biomask.checkpoint import construct
from biomask.errors import UsageError
from biomask.models import UNet
from biomask.recipe import Recipe
from biomask.recipes.catalogue import ALIASES, CATALOGUE, USUAL_SIZES
from biomask.recipes.describe import SIDES, describe, describe_all, flops

#: By the specification: channels, classes, spatial dimensions, parameters.
COUNTS = {
    "unet-2015": (1, 2, 2, 31_030_658), "unet-2015-same": (1, 2, 2, 31_030_658), "unet-rwzzz": (1, 1, 2, 31_042_369),
    "unet-milesial": (3, 2, 2, 31_037_698), "unet-milesial-bilinear": (3, 2, 2, 17_263_042), "unet-drishti": (3, 2, 2, 34_527_106),
    "attention-unet": (3, 2, 2, 34_878_638), "attention-unet-3d": (1, 4, 3, 6_214_151),
    "attention-unet-3d-double": (1, 4, 3, 6_473_322), "unet++": (1, 1, 2, 9_041_700), "unet++-l1": (1, 1, 2, 100_961),
    "unet++-l2": (1, 1, 2, 511_105), "unet++-l3": (1, 1, 2, 2_204_961), "unet++-l4": (1, 1, 2, 9_041_601),
    "unet++-3d": (1, 1, 3, 26_198_372), "unet++-drishti": (3, 2, 2, 36_629_698), "narrow-unet": (1, 1, 2, 7_759_521),
    "wide-unet": (1, 1, 2, 9_130_476), "wide-unet-released": (1, 1, 2, 9_282_246), "fcn-32s": (3, 21, 2, 134_346_581),
    "fcn-16s": (3, 21, 2, 134_364_410), "fcn-8s": (3, 21, 2, 134_376_863), "sliding-window-2012": (1, 2, 2, 219_290),
    # 44,401,393 with COCO's 91 classes, 5 x 1024 + 5 and 256 + 1 for each; fine-tuned without the stem and the first stage.
    "mask-rcnn-r50-fpn": (3, 81, 2, 44_401_393 - 10 * 5_382), "mask-rcnn-finetune": (3, 2, 2, 44_401_393 - 89 * 5_382 - 222_400),
    "mask-rcnn-small": (1, 2, 2, 4_048_059),
}


@pytest.fixture(scope="module")
def described():
    return {d.name: d for d in describe_all()}


def test_the_catalogue_has_every_recipe_once():
    assert set(CATALOGUE) == set(recipes.names())
    assert set(COUNTS) == set(recipes.names()) - {"default", "one-layer"}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameters(described, name):
    d = described[name]
    assert (d.in_channels, d.classes, d.spatial_dims, d.parameters) == COUNTS[name]


@pytest.mark.parametrize("name", recipes.names())
def test_says_where_it_comes_from_and_what_was_chosen(described, name):
    recipe, d = recipes.get(name), described[name]
    assert d.source == recipe.source
    assert recipe.title
    assert d.good_for
    assert recipe.choices or name == "one-layer"
    assert len(d.good_for) <= 70


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_aliases(alias):
    assert recipes.get(alias) == recipes.get(ALIASES[alias])
    assert alias not in recipes.names()
    with torch.device("meta"):
        network = api.build(alias, in_channels=1, classes=2, width=2)
    assert type(network).__name__ == type(api.build(ALIASES[alias], in_channels=1, classes=2, width=2)).__name__


def test_work_of_the_papers_network():
    """150.43 G multiply-adds for its tile of 572 pixels (specification, 1.2)."""
    with torch.device("meta"):
        assert flops(UNet(1, 2, padding="valid"), 388) == pytest.approx(2 * 150.43e9, rel=1e-4)


def test_work_of_one_convolution():
    with torch.device("meta"):
        one = api.build("one-layer", in_channels=3, classes=2, kernel=5)
    assert flops(one, 10) == 2 * 10 * 10 * 5 * 5 * 3 * 2


@pytest.mark.parametrize("name", ["default", "unet-2015", "unet-drishti", "attention-unet", "attention-unet-3d", "unet++",
                                  "unet++-drishti", "fcn-8s"])
def test_work_is_what_torch_counts(described, name):
    """By its own counter, which takes shapes from torch's own rules."""
    entry, recipe = CATALOGUE[name], recipes.get(name)
    usual = USUAL_SIZES[entry.spatial_dims] if name == "default" else {}
    with torch.device("meta"):
        network = construct(recipe.network.name, {**usual, **recipe.network.options}, entry.in_channels, entry.classes,
                            entry.spatial_dims).eval()
        sides = [network.legal_size(SIDES[entry.spatial_dims] + 2 * m, axis) for axis, m in enumerate(network.margin)]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty((1, entry.in_channels, *sides)))
    assert described[name].flops == counter.get_total_flops()
    assert described[name].parameters == sum(p.numel() for p in network.parameters())


class Odd(torch.nn.Module):
    """What the networks of the recipes do not do, or not in this way."""

    in_channels, margin = 3, (0, 0)

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(8, 2, 1)

    def legal_size(self, size, axis):
        return size

    def forward(self, x):
        x = torch.add(self.a(x), 1, alpha=2) * torch.tensor(2.0)
        x = torch.cat([x + x.mean((2, -1), keepdim=True), torch.stack([x, x]).mean(0) + x.mean()], -3)
        return self.b(x).mean((0, 1))


def test_any_network_is_counted():
    with torch.device("meta"):
        network = Odd()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty((1, 3, 16, 16)))
    assert flops(network, 16) == counter.get_total_flops() == 2 * 16 * 16 * (4 * 3 * 9 + 2 * 8)


def test_describing_loads_no_compiler():
    """It takes longer than all else; a process of its own, for other tests do load it."""
    code = ("import sys; from biomask.recipes.describe import describe_all; describe_all(); "
            "assert 'torch._dynamo' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_recipes():
    with pytest.raises(UsageError, match="unet-2015"):
        describe("unet-2014")


def test_describing_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    describe("one-layer")
    assert torch.equal(before, torch.get_rng_state())


class TestCommand:
    def test_json(self, tmp_path, capsys):
        assert cli.main(["recipes", "--json", str(tmp_path / "r.json")]) == 0
        listed = json.loads((tmp_path / "r.json").read_text())
        assert [e["name"] for e in listed] == list(CATALOGUE)
        for e in listed:
            assert {"name", "parameters", "in_channels", "classes", "spatial_dims", "source"} <= set(e)
            if e["name"] in COUNTS:
                assert (e["in_channels"], e["classes"], e["spatial_dims"], e["parameters"]) == COUNTS[e["name"]]
        out = capsys.readouterr().out
        for d in listed:  # the table is printed beside it
            assert f"{d['parameters']:,}" in out
            assert d["good_for"] in out
            assert d["source"] in out

    def test_show_prints_what_recipe_takes_back(self, tmp_path, capsys):
        for name in ("unet++", "ronneberger-2015"):
            assert cli.main(["recipes", "show", name]) == 0
            path = tmp_path / f"{name}.yaml"
            path.write_text(capsys.readouterr().out, encoding="utf-8")
            assert Recipe.from_yaml(path) == recipes.get(name)
            assert yaml.safe_load(path.read_text(encoding="utf-8"))["source"] == recipes.get(name).source

    def test_show_of_what_is_not_there(self, capsys):
        assert cli.main(["recipes", "show", "unet-2014"]) == 2
        assert "unet-2015" in capsys.readouterr().err
