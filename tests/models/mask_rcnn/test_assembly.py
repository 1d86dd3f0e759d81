"""Mask R-CNN put together: counts, gradients, what it learns from few pictures, odd batches, limits, precision."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from biomask.errors import LabelsError, SizeError
from biomask.models import DETECTORS
from biomask.models.mask_rcnn import Limits, MaskRCNN, Target
from biomask.models.mask_rcnn.boxes import box_iou

#: A detector that a busy core trains.
SMALL = {"backbone": "resnet18", "width": 8, "channels": 16, "head": 32, "norm": "batch", "short_side": None,
         "anchor_sizes": (8, 16, 32, 64, 128),
         "limits": {"proposals": 50, "proposals_training": 50, "samples": 32, "rpn_samples": 64}}
VARIANTS = ({"keypoints": 2}, {"neck": "c4"}, {"version": 2}, {"norm": "none", "roi": "pool", "class_agnostic": True},
            {"masks": False})


def picture(side: int = 64, shift: int = 0) -> tuple[Tensor, Target]:
    """A bright rectangle (class 1) and a dark one (class 2) on grey; keypoints at two corners of each."""
    image, masks = torch.full((1, side, side), 0.5), torch.zeros(2, side, side, dtype=torch.uint8)
    boxes = torch.tensor([[6, 8, 30, 28], [34, 30, 60, 58]], dtype=torch.float32) + shift
    for mask, (x0, y0, x1, y1), value in zip(masks, boxes.int().tolist(), (1.0, 0.0), strict=True):
        mask[y0:y1, x0:x1] = 1
        image[0, y0:y1, x0:x1] = value
    points = torch.stack((boxes[:, :2] + 2, boxes[:, 2:] - 2), dim=1)
    return image, {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks,
                   "keypoints": torch.cat((points, torch.full((2, 2, 1), 2.0)), dim=2)}


def nothing(side: int = 48) -> tuple[Tensor, Target]:
    """An image without objects."""
    return torch.rand(1, side, side), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64),
                                       "masks": torch.zeros(0, side, side, dtype=torch.uint8), "keypoints": torch.zeros(0, 2, 3)}


def small(**options: object) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(1, 3, **{**SMALL, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "count"), [({"classes": 91}, 44_401_393), ({"classes": 91, "norm": "batch"}, 44_454_513),
                                                ({"classes": 91, "version": 2, "norm": "batch"}, 46_359_409),
                                                ({"classes": 2, "masks": False, "keypoints": 17}, 59_137_258)])
def test_parameters(options: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        network = MaskRCNN(3, **options)  # type: ignore[arg-type]
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_gradients_reach_every_trainable_parameter(options: dict[str, object]) -> None:
    """With objects, and, so that several devices agree on what is trained, without."""
    network = small(**options).train()
    names = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    names |= ({"loss_mask"} if network.has_masks else set()) | ({"loss_keypoint"} if network.keypoints else set())
    for parameter in network.parameters():
        if not parameter.any():  # without normalisation blocks begin as the identity, which keeps gradients from their inside
            torch.nn.init.normal_(parameter, std=0.1)
    images, targets = zip(picture(), nothing(), strict=True)
    losses = network(list(images), list(targets))
    assert set(losses) == names
    assert all(loss.dtype == torch.float32 and loss.ndim == 0 for loss in losses.values())
    sum(losses.values()).backward()
    unmoved = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not unmoved
    network.zero_grad()
    image, target = nothing()
    losses = network([image], [target])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in network.named_parameters() if "roi_heads" in n)
    assert all(losses[n] == 0 for n in names & {"loss_rpn_box_reg", "loss_box_reg", "loss_mask", "loss_keypoint"})
    assert all(b.isfinite().all() for b in network.buffers())


def test_trainable_leaves_the_rest_as_it_is() -> None:
    network = small(trainable=1).train()
    trained = {n.split(".")[2] for n, p in network.named_parameters() if n.startswith("backbone.body") and p.requires_grad}
    assert trained == {"layer4"}
    before = network.backbone.body.layer1[0].bn1.running_mean.clone()  # type: ignore[index, union-attr]
    image, target = picture()
    network([image], [target])
    assert torch.equal(network.backbone.body.layer1[0].bn1.running_mean, before)  # type: ignore[index, union-attr]


def test_overfits_two_pictures() -> None:
    """Boxes, classes, masks and keypoints of two pictures of different sizes, from random weights."""
    network = small(keypoints=2).train()
    images, targets = map(list, zip(picture(64), picture(72, shift=7), strict=True))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        sum(network(images, targets).values()).backward()
        optimiser.step()
    with torch.no_grad():
        found = network.eval()(images)
    for one, target in zip(found, targets, strict=True):
        best = [int((one["scores"] * (one["labels"] == label)).argmax()) for label in target["labels"]]
        assert all(one["scores"][best] > 0.5)
        assert box_iou(one["boxes"][best], target["boxes"]).diagonal().min() > 0.6
        masks = one["masks"][best, 0] >= 0.5
        both = (masks & (target["masks"] > 0)).sum((1, 2)) / (masks | (target["masks"] > 0)).sum((1, 2))
        assert both.min() > 0.6
        assert (one["keypoints"][best, :, :2] - target["keypoints"][..., :2]).norm(dim=-1).max() < 8


def test_an_image_is_seen_alike_alone_and_in_a_batch_of_other_sizes() -> None:
    network = small(norm="frozen", limits={"score": 0.0, "detections": 10}).eval()
    image, _ = picture(64)
    with torch.no_grad():
        (alone,), (first, _) = network([image]), network([image, torch.rand(1, 40, 64)])
    assert len(alone["boxes"]) == 10
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, msg=key)


def test_nothing_found() -> None:
    network = small(keypoints=2).eval()
    with torch.no_grad(), network.with_limits({"score": 1.0}):
        (found,) = network([torch.rand(1, 50, 70)])
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "boxes": (0, 4), "labels": (0,), "scores": (0,), "masks": (0, 1, 50, 70), "keypoints": (0, 2, 3),
        "keypoints_scores": (0, 2)}


def test_limits_hold_and_come_back() -> None:
    network = small(limits={"score": 0.0}).eval()
    image = torch.rand(1, 64, 64)
    before = network.limits
    with torch.no_grad(), network.with_limits({"detections": 3, "score": 0.1}):
        (few,) = network([image], paste=False)
        assert network.limits == replace(before, detections=3, score=0.1)
    assert network.limits is before
    assert few["masks"].shape == (3, 1, 28, 28)
    assert few["scores"].tolist() == sorted(few["scores"].tolist(), reverse=True)
    assert ((few["scores"] > 0.1) & (few["labels"] >= 1) & (few["labels"] < 3)).all()
    with torch.no_grad():
        (all_,) = network([image], paste=False)
    assert len(all_["scores"]) > 3
    for key in ("boxes", "scores", "labels"):
        assert torch.equal(all_[key][:3], few[key])  # type: ignore[literal-required]


def test_sampling_follows_the_seed() -> None:
    network = small().train()
    image, target = picture()

    def losses(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [float(loss.detach()) for loss in network([image], [target]).values()]

    network.eval()
    for module in (network, network.rpn, network.roi_heads, network.transform):
        module.training = True  # losses, while the statistics of batches stay
    assert losses(1) == losses(1) != losses(2)


def test_half_precision_gives_the_losses_and_boxes_of_single() -> None:
    network = small(keypoints=2, norm="frozen").train()
    network.sample = lambda matches, *_: (torch.nonzero(matches >= 0).flatten()[:8], torch.nonzero(matches == -1).flatten()[:16])
    image, target = picture()
    with torch.no_grad():
        single = network([image], [target])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network([image], [target])
            (found,) = network.eval()([image])
    assert all(value.dtype == torch.float32 for value in half.values())
    assert all(v.dtype == torch.float32 for k, v in found.items() if k != "labels")  # type: ignore[union-attr]
    for key in ("loss_objectness", "loss_rpn_box_reg", "loss_mask"):
        torch.testing.assert_close(half[key], single[key], rtol=0.1, atol=0.02, msg=key)


def test_c4_has_its_own_limits() -> None:
    assert small(neck="c4", limits={"score": 0.2}).limits == Limits(
        proposals_before_nms=6000, proposals=300, proposals_before_nms_training=12000, samples=64, score=0.2)


def test_faster_rcnn_is_mask_rcnn_without_masks() -> None:
    mask, faster = (set(DETECTORS[name](1, 3, **SMALL).state_dict()) for name in ("mask-rcnn", "faster-rcnn"))
    assert {name.split(".")[1] for name in mask - faster} == {"mask_head", "mask_predictor"}
    assert faster < mask


@pytest.mark.parametrize(("options", "says"), [
    ({"spatial_dims": 3}, "spatial_dims=3"), ({"neck": "pan"}, "neck='pan'"), ({"version": 3}, "version=3"),
    ({"classes": 1}, "classes=1"), ({"anchor_sizes": (8, 16)}, "5 levels"), ({"mean": (0.1, 0.2)}, "mean="),
    ({"std": (0.0,)}, "std="), ({"backbone": "vgg"}, "vgg"), ({"limits": {"score": 2}}, "score=2"),
    ({"limits": {"detection": 5}}, "'detection'"), ({"limits": {"detections": 0}}, "detections=0")])
def test_options_that_cannot_work(options: dict[str, object], says: str) -> None:
    with pytest.raises(SizeError, match=says), torch.device("meta"):
        MaskRCNN(**{"in_channels": 1, "classes": 3, **SMALL, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("change", "says"), [
    ({"boxes": torch.tensor([[5.0, 5, 5, 9], [1, 1, 2, 2]])}, r"\[5.0, 5.0, 5.0, 9.0\] has no area"),
    ({"labels": torch.tensor([1, 3])}, "label 3 is not 1..2"), ({"labels": torch.tensor([1.0, 2.0])}, "float32"),
    ({"labels": torch.tensor([1])}, r"labels has shape \(1,\)"),
    ({"masks": torch.zeros(2, 9, 9, dtype=torch.uint8)}, r"\(2, 9, 9\)"),
    ({"boxes": torch.full((2, 4), torch.nan)}, "no area")])
def test_targets_that_do_not_fit(change: dict[str, Tensor], says: str) -> None:
    network = small().train()
    image, target = picture()
    with pytest.raises(LabelsError, match=says) as error:
        network([image, image], [target, {**target, **change}])  # type: ignore[typeddict-item]
    assert error.value.where == "targets[1]"


def test_what_is_missing_is_said() -> None:
    network = small().train()
    image, target = picture()
    without: Target = {"boxes": target["boxes"], "labels": target["labels"]}
    with pytest.raises(LabelsError, match="lacks masks"):
        network([image], [without])
    with pytest.raises(SizeError, match="one target an image"):
        network([image])
    with pytest.raises(SizeError, match=r"\(1, H, W\)"):
        network.eval()([torch.rand(3, 8, 8)])
    with pytest.raises(SizeError, match="at least one image"):
        network([])
