"""Files with torchvision's names: what loads, what is new, what is refused. On narrow networks of our own."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from biomask.errors import MissingPathError, ModelFileError, UsageError
from biomask.models import MaskRCNN, load_torchvision
from biomask.models.backbones import FrozenBatchNorm, ResNet
from biomask.models.torchvision_weights import DETECTORS, IMAGENET, known, load_weights_into

NARROW = {"width": 2, "channels": 4, "head": 8}
MASK = "maskrcnn_resnet50_fpn"


def weights(name: str = MASK, classes: int = 5, **options: object) -> dict[str, Tensor]:
    """Of a narrow network, all random."""
    torch.manual_seed(0)
    network = MaskRCNN(3, classes, **{**DETECTORS[name], **NARROW, **options})  # type: ignore[arg-type]
    return {n: torch.rand_like(t) if t.is_floating_point() else t for n, t in network.state_dict().items()}


def old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torchvision wrote them until version 0.12."""
    def old(name: str) -> str:
        name = re.sub(r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        return re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name)

    return {old(name): tensor for name, tensor in tensors.items()}


def eps(network: torch.nn.Module) -> set[float]:
    return {m.eps for m in network.modules() if isinstance(m, FrozenBatchNorm)}


@pytest.mark.parametrize("name", DETECTORS)
def test_all_of_a_detector_loads(name: str) -> None:
    given = weights(name, classes=2)
    network, report = load_torchvision(name, given, options=NARROW)
    assert isinstance(network, MaskRCNN)
    assert not network.training
    assert network.classes == 2
    assert set(report.loaded) == set(given)
    assert (report.new, report.unused, report.first_convolution) == ((), (), None)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, given[key])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_with_old_and_new_names_give_the_same_network(tmp_path: Path, suffix: str) -> None:
    """But for eps: torchvision's old files were trained with 0."""
    given = weights()
    write = save_file if suffix == ".safetensors" else torch.save
    states = []
    for label, tensors in (("new", given), ("old", old_names(given))):
        write(tensors, tmp_path / (label + suffix))
        network, report = load_torchvision(MASK, tmp_path / (label + suffix), options=NARROW)
        assert len(report.loaded) == len(given)
        assert eps(network) == {0.0 if label == "old" else 1e-5} == {report.eps}
        states.append(network.state_dict())
    assert set(old_names(given)) != set(given)
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())


def test_eps_can_be_told_and_one_old_file_has_the_usual(tmp_path: Path) -> None:
    network, _ = load_torchvision(MASK, weights(), options=NARROW, eps=0.0)
    assert eps(network) == {0.0}
    name = "keypointrcnn_resnet50_fpn"
    torch.save(old_names(weights(name, classes=2)), tmp_path / f"{name}_coco-9f466800.pth")
    network, report = load_torchvision(name, tmp_path / f"{name}_coco-9f466800.pth", options=NARROW)
    assert eps(network) == {1e-5} == {report.eps}


def test_other_classes_have_new_predictors() -> None:
    given = weights(classes=91)
    network, report = load_torchvision(MASK, given, classes=3, options=NARROW)
    assert isinstance(network, MaskRCNN)
    assert network.classes == 3
    heads = ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred", "roi_heads.mask_predictor.mask_fcn_logits")
    assert set(report.new) == {f"{head}.{part}" for head in heads for part in ("weight", "bias")} == set(report.unused)
    assert all(head in str(report) for head in heads)
    assert torch.equal(network.state_dict()["roi_heads.mask_predictor.conv5_mask.weight"],
                       given["roi_heads.mask_predictor.conv5_mask.weight"])
    with torch.no_grad():
        network([torch.rand(3, 64, 64)])


@pytest.mark.parametrize("channels", [1, 4])
def test_equal_channels_are_seen_as_the_grey_image(channels: int) -> None:
    given = weights()
    network, report = load_torchvision(MASK, given, in_channels=channels, options=NARROW)
    colour, _ = load_torchvision(MASK, given, options=NARROW)
    assert report.first_convolution is not None
    assert f"from 3 to {channels} channels" in report.first_convolution
    grey = torch.rand(1, 1, 20, 20)
    new, old = (n.backbone.body.conv1(grey.expand(-1, c, -1, -1)) for n, c in ((network, channels), (colour, 3)))  # type: ignore
    torch.testing.assert_close(new, old)


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_networks_load_without_their_classifier(name: str) -> None:
    options = {"width": 32 if "x" in name else 2}
    given = {n: torch.rand_like(t) for n, t in ResNet(IMAGENET[name], 3, norm="frozen", **options).state_dict().items()}  # type: ignore[arg-type]
    given |= {f"{n.removesuffix('running_var')}num_batches_tracked": torch.tensor(3) for n in given if n.endswith("running_var")}
    network, report = load_torchvision(name, {**given, "fc.weight": torch.rand(9, 4), "fc.bias": torch.rand(9)}, options=options)
    assert isinstance(network, ResNet)
    assert (report.new, report.unused) == ((), ("fc.weight", "fc.bias"))
    assert all(torch.equal(tensor, given[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_imagenet_weights_go_into_a_detector(neck: str) -> None:
    """In a C4 network the last stage is among the heads."""
    given = {n: torch.rand_like(t) for n, t in ResNet("resnet18", 1, 2).state_dict().items()}
    network = MaskRCNN(1, 2, backbone="resnet18", neck=neck, **NARROW)  # type: ignore[arg-type]
    report = load_weights_into(network, given)
    assert not report.unused
    own, stage = network.state_dict(), "backbone.body.layer4." if neck == "fpn" else "roi_heads.res5."
    for key, tensor in given.items():
        assert torch.equal(tensor, own[key.replace("layer4.", stage) if key.startswith("layer4.") else f"backbone.body.{key}"])
    assert not any(n.startswith(("backbone.body.", stage)) for n in report.new)
    assert any(n.startswith("rpn.") for n in report.new)


def test_fewer_heads_in_the_file_are_new_in_the_network() -> None:
    network = MaskRCNN(3, 2, keypoints=4, **NARROW)  # type: ignore[arg-type]
    report = load_weights_into(network, weights("fasterrcnn_resnet50_fpn", classes=2))
    assert {n.split(".")[1] for n in report.new} == {"mask_head", "mask_predictor", "keypoint_head", "keypoint_predictor"}


@pytest.mark.parametrize(("name", "change", "says"), [
    (MASK, lambda t: {n: v for n, v in t.items() if n.startswith("backbone.")}, "holds no box predictor"),
    (MASK, lambda t: {n: v for n, v in t.items() if "mask_head" not in n}, "lacks roi_heads.mask_head"),
    (MASK, lambda t: {n: v for n, v in t.items() if "layer3" not in n}, "of the backbone's"),
    (MASK, lambda t: {**t, "backbone.fpn.inner_blocks.0.0.weight": torch.rand(9, 9, 1, 1)}, r"\(9, 9, 1, 1\) in the file"),
    ("maskrcnn_resnet50_fpn_v2", dict, "in the network|lacks"), ("resnet50", dict, "lacks")])
def test_files_of_something_else_are_refused(name: str, change: object, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        load_torchvision(name, change(weights()), options={"width": 2} if name in IMAGENET else NARROW)  # type: ignore[operator]


def test_unknown_names_and_missing_or_unsafe_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="retinanet") as error:
        load_torchvision("retinanet", {})
    assert all(name in str(error.value) for name in known())
    with pytest.raises(MissingPathError):
        load_torchvision(MASK, tmp_path / "none.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x02 nothing of use")
        with pytest.raises(ModelFileError, match="read safely"):
            load_torchvision(MASK, tmp_path / name)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "pickled.pth")
    with pytest.raises(ModelFileError, match="read safely"):
        load_torchvision(MASK, tmp_path / "pickled.pth")
