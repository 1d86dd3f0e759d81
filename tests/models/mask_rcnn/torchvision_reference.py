"""What torchvision's detectors make of given weights, images and targets: run by a Python that has torchvision.

python torchvision_reference.py FOLDER: one FOLDER/NAME.npz for each of `CASES`, with images, targets, the state dict's names and
shapes, detections and losses; of the first case in single precision too, and a gradient. The weights come from `weights`, on both
sides, and are not written.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np

#: What each test builds: at a size, with limits, at which a busy core needs seconds.
CASES = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn")
SHORT_SIDE, CLASSES, KEYPOINTS = 112, 4, 5
PROPOSALS, DETECTIONS, ANCHOR_SAMPLES, SAMPLES = 30, 8, 64, 16
#: Standard deviations where the usual √(2 / inputs) would leave nothing to detect, or only one thing.
SCALES = {"rpn.head.cls_logits.weight": 0.1, "rpn.head.bbox_pred.weight": 0.01, "cls_score.weight": 0.02, "bbox_pred.weight": 0.03,
          "mask_fcn_logits.weight": 0.2, "kps_score_lowres.weight": 0.05}
#: The pyramid's last convolutions are so much weaker, which the numbers above build on.
PYRAMID = 0.1


def weights(shapes):
    """Of each name and shape an array that depends on them alone: float32."""
    pool = np.random.RandomState(0).randn(1_000_003).astype(np.float32)
    out = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        draw = np.resize(np.roll(pool, zlib.crc32(name.encode()) % len(pool)), size).reshape(shape)
        scale = next((s for end, s in SCALES.items() if name.endswith(end)), None)
        if name.endswith("num_batches_tracked"):
            out[name] = np.zeros(shape, np.int64)
        elif name.endswith("running_var"):
            out[name] = 0.5 + np.abs(draw)
        elif len(shape) == 1:
            usual = 0.3 if "bn3" in name else 1.0 if name.endswith("weight") else 0.0
            out[name] = usual + 0.1 * draw
        else:
            usual = np.sqrt(2 / np.prod(shape[1:])) * (PYRAMID if "layer_blocks" in name else 1)
            out[name] = draw * (usual if scale is None else scale)
    return {name: np.asarray(value, value.dtype if value.dtype == np.int64 else np.float32) for name, value in out.items()}


def scene(seed, size):
    """A picture (3, H, W) 0..1 and its target: rectangles on noise, each with a mask, keypoints and a class."""
    rng = np.random.RandomState(seed)
    image = rng.rand(3, *size) * 0.3
    boxes, masks, points = [], [], []
    for _ in range(4):
        y, x = (int(rng.randint(0, n - 30)) for n in size)
        h, w = rng.randint(12, 60, 2)
        y1, x1 = min(y + h, size[0]), min(x + w, size[1])
        mask = np.zeros(size, np.uint8)
        mask[y:y1, x:x1] = rng.rand(y1 - y, x1 - x) > 0.2
        image[:, mask > 0] += rng.rand(3, 1) * 0.7
        boxes.append((x, y, x1, y1))
        masks.append(mask)
        across, down = rng.uniform(x - 2, x1 + 2, KEYPOINTS), rng.uniform(y - 2, y1 + 2, KEYPOINTS)
        inside = np.stack((across, down, rng.randint(0, 3, KEYPOINTS)), 1)
        inside[0] = (x1, y1, 2)
        points.append(inside)
    return image, {"boxes": np.array(boxes, np.float64), "labels": rng.randint(1, CLASSES, 4).astype(np.int64),
                   "masks": np.array(masks), "keypoints": np.array(points, np.float32)}


def first_of_each(matches, count, share):
    """A sampler without chance: positions of the first positives (>= 0 as `Matcher` says) and of the first negatives (-1)."""
    positive, negative = np.flatnonzero(matches >= 0), np.flatnonzero(matches == -1)
    positive = positive[:int(count * share)]
    return positive, negative[:count - len(positive)]


class FirstOfEach:
    """The same for torchvision, whose labels are above 0, 0 or -1 (not sampled)."""

    def __init__(self, count, share):
        self.count, self.share = count, share

    def __call__(self, labels):
        import torch

        positive, negative = [], []
        for label in labels:
            matches = np.where(label.numpy() > 0, 1, np.where(label.numpy() == 0, -1, -2))
            for found, chosen in zip((positive, negative), first_of_each(matches, self.count, self.share)):
                mask = torch.zeros(len(label), dtype=torch.uint8)
                mask[torch.from_numpy(chosen)] = 1
                found.append(mask)
        return positive, negative


def build(name):
    """torchvision's network with the limits above, batch normalisation frozen but in the second version."""
    from torchvision.models import detection, resnet50
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.misc import FrozenBatchNorm2d

    limits = {"min_size": SHORT_SIDE, "max_size": 200, "rpn_post_nms_top_n_train": PROPOSALS, "rpn_post_nms_top_n_test": PROPOSALS,
              "box_detections_per_img": DETECTIONS, "rpn_batch_size_per_image": ANCHOR_SAMPLES, "box_batch_size_per_image": SAMPLES}
    if name.endswith("v2"):
        model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=CLASSES,
                                                   trainable_backbone_layers=5, **limits)
    else:
        body = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), 5)
        kind = detection.KeypointRCNN if name.startswith("keypoint") else detection.MaskRCNN
        model = kind(body, CLASSES, **limits, **({"num_keypoints": KEYPOINTS} if name.startswith("keypoint") else {}))
    model.rpn.fg_bg_sampler = FirstOfEach(ANCHOR_SAMPLES, 0.5)
    model.roi_heads.fg_bg_sampler = FirstOfEach(SAMPLES, 0.25)
    return model


def answer(name):
    """Everything that the test compares, as arrays by name."""
    import torch

    for rule in ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_"):
        setattr(torch.nn.init, rule, lambda tensor, *_, **__: tensor)  # its weights are replaced
    model = build(name)
    shapes = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    model.load_state_dict({n: torch.from_numpy(t) for n, t in weights(shapes).items()})
    out = {"shapes": np.array(json.dumps(shapes))}
    scenes = [scene(1, (96, 140)), scene(2, (150, 110))]
    for n, (image, target) in enumerate(scenes):
        out[f"image{n}"] = image
        out.update({f"target{n}.{key}": value for key, value in target.items()})
    precisions = ((torch.float32, "single"), (torch.float64, "double"))
    for dtype, label in precisions if name == CASES[0] else precisions[1:]:
        model = model.to(dtype).eval()
        with torch.no_grad():
            found = model([torch.from_numpy(image).to(dtype) for image, _ in scenes])
        for n, one in enumerate(found):
            out.update({f"{label}{n}.{key}": value.numpy() for key, value in one.items()})
    model.train()
    keep = ("boxes", "labels", "keypoints" if name.startswith("keypoint") else "masks")
    losses = model([torch.from_numpy(image) for image, _ in scenes],
                   [{key: torch.from_numpy(target[key]) for key in keep} for _, target in scenes])
    out.update({f"loss.{key}": value.detach().numpy() for key, value in losses.items()})
    if name == CASES[0]:
        sum(losses.values()).backward()
        out["gradient"] = model.backbone.body.conv1.weight.grad.numpy()
    return out


if __name__ == "__main__":
    for case in CASES:
        np.savez(Path(sys.argv[1]) / f"{case}.npz", **answer(case))
