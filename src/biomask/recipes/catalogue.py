"""What the recipes are good for, and for how many channels and classes their sources count parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Entry:
    """A recipe as its source has it."""

    in_channels: int
    classes: int
    good_for: str
    """A few words for whoever chooses."""
    spatial_dims: int = 2


#: Every recipe of `biomask.recipes.names`, in the order in which they are shown.
CATALOGUE: Mapping[str, Entry] = MappingProxyType({
    "default": Entry(1, 2, "anything; sizes are fitted to the images, the machine and the time"),
    "one-layer": Entry(1, 2, "seeing what a task asks for: the least that can be called a network"),
    "unet-2015": Entry(1, 2, "comparison with the U-Net paper; touching cells and membranes"),
    "unet-2015-same": Entry(1, 2, "comparison with the U-Net paper on images smaller than its tiles"),
    "unet-milesial": Entry(3, 2, "checkpoints of that repository; comparison with it"),
    "unet-milesial-bilinear": Entry(3, 2, "the same with half the parameters"),
    "unet-rwzzz": Entry(1, 1, "comparison with that repository"),
    "unet-drishti": Entry(3, 2, "optic disc and cup; comparison with that report"),
    "attention-unet": Entry(3, 2, "seeing where the network looks; organs of varying place"),
    "attention-unet-3d": Entry(1, 4, "organs in CT; seeing where the network looks", 3),
    "attention-unet-3d-double": Entry(1, 4, "the same with two gates a skip", 3),
    "unet++": Entry(1, 1, "a choice between speed and accuracy after training"),
    "unet++-l1": Entry(1, 1, "the smallest and fastest; texture"),
    "unet++-l2": Entry(1, 1, "small objects on slow machines"),
    "unet++-l3": Entry(1, 1, "nearly as good as L4 in two thirds of the time"),
    "unet++-l4": Entry(1, 1, "comparison with the UNet++ paper without deep supervision"),
    "unet++-3d": Entry(1, 1, "nodules and other small objects in volumes", 3),
    "unet++-drishti": Entry(3, 2, "comparison with the PyTorch ports of UNet++"),
    "narrow-unet": Entry(1, 1, "a U-Net of a quarter of the size; comparison with UNet++"),
    "wide-unet": Entry(1, 1, "comparison with UNet++ at the same number of parameters"),
    "wide-unet-released": Entry(1, 1, "the same as its authors released it"),
    "fcn-32s": Entry(3, 21, "large objects in photographs; the first step of the FCN paper"),
    "fcn-16s": Entry(3, 21, "the second step of the FCN paper"),
    "fcn-8s": Entry(3, 21, "photographs, with VGG-16's weights; comparison with the FCN paper"),
    "sliding-window-2012": Entry(1, 2, "comparison with what came before the U-Net; slow to train"),
    "mask-rcnn-small": Entry(1, 2, "objects one by one, also where they overlap; learns on two cores"),
    "mask-rcnn-r50-fpn": Entry(3, 81, "comparison with the Mask R-CNN paper; photographs, on GPUs"),
    "mask-rcnn-finetune": Entry(3, 2, "objects or keypoints from few images, with torchvision's weights"),
})

#: Author and year of the papers, for the recipe that follows each most closely.
ALIASES: Mapping[str, str] = MappingProxyType({
    "ciresan-2012": "sliding-window-2012",
    "he-2017": "mask-rcnn-r50-fpn",
    "long-2015": "fcn-8s",
    "oktay-2018": "attention-unet-3d",
    "ronneberger-2015": "unet-2015",
    "zhou-2018": "unet++",
})

#: Options of recipe `default` where no data decide on them, by spatial dimensions.
USUAL_SIZES: Mapping[int, Mapping[str, int]] = MappingProxyType({2: {"width": 32, "depth": 4}, 3: {"width": 32, "depth": 2}})
