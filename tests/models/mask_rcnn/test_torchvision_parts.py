"""The parts of the detector against torchvision's, on the same numbers."""

import numpy as np
import torch

from biomask.models.backbones import ResNet
from biomask.models.mask_rcnn.anchors import AnchorGenerator
from biomask.models.mask_rcnn.boxes import BoxCoder, batched_nms, box_iou, nms
from biomask.models.mask_rcnn.fpn import FPN
from biomask.models.mask_rcnn.matcher import Matcher, sample_balanced
from biomask.models.mask_rcnn.roi_align import MultiScale, roi_align, roi_pool

SIZES = ((50, 68), (25, 34), (13, 17), (7, 9))

OPERATIONS = """
from collections import OrderedDict
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou, nms, roi_align, roi_pool
boxes, scores, groups, deltas = (given[name] for name in ("boxes", "scores", "groups", "deltas"))
rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
maps = OrderedDict((str(i), given[f"map{i}"]) for i in range(4))
out["align"] = roi_align(maps["1"], rois, 7, 1 / 8, 2)
out["pool"] = roi_pool(maps["1"], rois, 7, 1 / 8)
out["levels"] = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)(maps, [boxes], [(200, 272)])
map1 = maps["1"].clone().requires_grad_()
(roi_align(map1, rois, 7, 1 / 8, 2) ** 2).sum().backward()
out["gradient"] = map1.grad
for threshold in (0.3, 0.5, 0.7):
    out[f"nms{threshold}"] = nms(boxes, scores, threshold)
out["batched"] = batched_nms(boxes, scores, groups, 0.5)
out["iou"] = box_iou(boxes[:50], boxes)
for low_quality in (False, True):
    out[f"matches{int(low_quality)}"] = Matcher(0.7, 0.3, low_quality)(out["iou"])
torch.manual_seed(0)
out["sampled"] = torch.stack([m[0] for m in BalancedPositiveNegativeSampler(40, 0.5)([given["labels"]])])
out["encoded"] = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(boxes.roll(1, 0), boxes)
out["decoded"] = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(deltas, boxes).view(-1, 3, 4)
generator = AnchorGenerator(((16,), (32, 48), (64,), (128,)), ((0.5, 1.0, 2.0),) * 4)
out["anchors"] = generator(ImageList(torch.zeros(1, 3, 200, 272), [(190, 270)]), list(maps.values()))[0]
"""


def operands():
    rng = np.random.default_rng(0)
    side = np.exp(rng.uniform(np.log(3), np.log(400), (300, 2)))
    middle = rng.uniform(0, (272, 200), (300, 2))
    boxes = np.concatenate([middle - side / 2, middle + side / 2], axis=1).clip(-4, 280)
    boxes[200:] = boxes[:100] + rng.uniform(0, 4, (100, 4))  # so that many overlap
    numbers = {"boxes": boxes, "scores": rng.integers(0, 40, 300) / 40, "deltas": rng.normal(0, 3, (300, 12))}
    numbers |= {f"map{i}": rng.normal(0, 1, (1, 5, *size)) for i, size in enumerate(SIZES)}
    integers = {"groups": rng.integers(0, 4, 300), "labels": rng.integers(-1, 2, 300)}
    return {name: array.astype(np.float32) for name, array in numbers.items()} | integers


def test_operations_are_torchvisions(torchvision_peer):
    arrays = operands()
    peer = torchvision_peer(OPERATIONS, **arrays)
    boxes, scores, groups, deltas, labels = (torch.from_numpy(arrays[n]) for n in ("boxes", "scores", "groups", "deltas", "labels"))
    maps = [torch.from_numpy(arrays[f"map{i}"]) for i in range(4)]
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    one = maps[1].clone().requires_grad_()
    align = roi_align(one, rois, 7, 1 / 8)
    align.square().sum().backward()
    close = {"align": align.detach(), "gradient": one.grad, "levels": MultiScale([1 / 4, 1 / 8, 1 / 16, 1 / 32], 7)(maps, [boxes]),
             "iou": box_iou(boxes[:50], boxes), "encoded": BoxCoder().encode(boxes.roll(1, 0), boxes),
             "decoded": BoxCoder().decode(deltas, boxes)}
    for name, value in close.items():
        np.testing.assert_allclose(value, peer[name], rtol=1e-5, atol=1e-5 * np.abs(peer[name]).max(), err_msg=name)
    anchors = AnchorGenerator((16, (32, 48), 64, 128))((200, 272), SIZES)
    positive, negative = sample_balanced(torch.where(labels > 0, 0, labels - 1), 40, 0.5, torch.manual_seed(0))
    equal = {"pool": roi_pool(maps[1], rois, 7, 1 / 8), "batched": batched_nms(boxes, scores, groups, 0.5),
             "anchors": torch.cat(anchors)} | {f"nms{t}": nms(boxes, scores, t) for t in (0.3, 0.5, 0.7)}
    equal |= {f"matches{int(q)}": Matcher(0.7, 0.3, q)(torch.from_numpy(peer["iou"])) for q in (False, True)}
    for name, value in equal.items():
        if name == "batched":  # torchvision leaves the order of equal scores open
            value, peer[name] = value.sort().values, np.sort(peer[name])
        np.testing.assert_array_equal(value, peer[name], err_msg=name)
    for drawn, mask in zip((positive, negative), peer["sampled"], strict=True):
        np.testing.assert_array_equal(drawn, np.flatnonzero(mask))


NETWORKS = """
from collections import OrderedDict
import torchvision
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
torch.manual_seed(0)
for name, make in (("resnet18", torchvision.models.resnet18), ("resnet50", torchvision.models.resnet50)):
    network = make().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.2, 0.8)
    stages = IntermediateLayerGetter(network, {f"layer{i + 1}": str(i) for i in range(4)})
    fpn = FeaturePyramidNetwork([64, 128, 256, 512] if name == "resnet18" else [256, 512, 1024, 2048], 8, LastLevelMaxPool())
    with torch.no_grad():
        maps = stages(given["image"])
        levels = fpn(maps)
    out |= {f"{name}/weights/{k}": v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    out |= {f"{name}/maps/{k}": v for k, v in maps.items()}
    out |= {f"{name}/fpn/{k}": v for k, v in fpn.state_dict().items()}
    out |= {f"{name}/levels/{k}": v for k, v in levels.items()}
for name, groups, width in (("resnet101", 1, 64), ("resnext101-32x8d", 32, 8), ("resnext101-64x4d", 64, 4)):
    network = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=groups, width_per_group=width)
    out |= {f"{name}/shapes/{k}": np.array(v.shape) for k, v in network.state_dict().items() if not k.startswith("fc.")}
"""


def part(out, start):
    return {name.removeprefix(start): torch.from_numpy(array) for name, array in out.items() if name.startswith(start)}


def test_backbones_and_pyramid_are_torchvisions(torchvision_peer):
    image = np.random.default_rng(0).normal(0, 1, (1, 3, 70, 101)).astype(np.float32)
    peer = torchvision_peer(NETWORKS, image=image)
    for name, norm in (("resnet18", "batch"), ("resnet50", "frozen")):
        network = ResNet(name, norm=norm).eval()
        network.load_state_dict(part(peer, f"{name}/weights/"))
        with torch.no_grad():
            maps = network(torch.from_numpy(image))
        for key, expected in part(peer, f"{name}/maps/").items():
            torch.testing.assert_close(maps[key], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        fpn = FPN(network.channels, channels=8)
        fpn.load_state_dict({k if k.split(".")[2] == "0" else k.replace(".weight", ".0.weight").replace(".bias", ".0.bias"): v
                             for k, v in part(peer, f"{name}/fpn/").items()})
        with torch.no_grad():
            levels = fpn(maps)
        assert list(levels) == ["0", "1", "2", "3", "pool"]
        for key, expected in part(peer, f"{name}/levels/").items():
            torch.testing.assert_close(levels[key], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    for name in ("resnet101", "resnext101-32x8d", "resnext101-64x4d"):
        with torch.device("meta"):
            state = ResNet(name, norm="batch").state_dict()
        shapes = {k: v.tolist() for k, v in part(peer, f"{name}/shapes/").items()}  # of one block a stage
        assert {k: list(v.shape) for k, v in state.items() if k in shapes} == shapes
