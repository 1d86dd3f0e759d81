"""What can be fetched: names, addresses, licences. Nothing here is biomask's own, and nothing is fetched unasked."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

from biomask.errors import UsageError
from biomask.io.download import Checksum


@dataclass(frozen=True)
class RemoteFile:
    """A file on somebody's server."""

    url: str
    checksum: Checksum | None = None
    """None where nobody has published one."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Offer:
    """One set of weights, or one data set."""

    name: str
    kind: Literal["weights", "data"]
    what: str
    licence: str
    source: str
    """The page of whoever offers it."""
    files: tuple[RemoteFile, ...]
    """Weights: one, kept as it is. Data: archives, unpacked."""
    megabytes: int | None = None
    """About, of what is downloaded."""
    use: str = ""
    """What to type next; {path} is where it lies."""

    @property
    def verified(self) -> bool:
        """Whether a checksum is known for all of it."""
        return all(f.checksum is not None for f in self.files)


#: Where torchvision keeps its weights. The eight digits at the end of a name are how the SHA-256 of the file begins.
TORCHVISION = "https://download.pytorch.org/models/"

#: Recipes that begin with them.
FINETUNE, BACKBONE = "mask-rcnn-finetune", "mask-rcnn-r50-fpn --set network.options.backbone="


def _weights(name: str, file: str, what: str, megabytes: int, recipe: str) -> Offer:
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Offer(name, "weights", what, "BSD-3-Clause; its training data have terms of their own", "https://pytorch.org/vision/stable/models.html",
                 (RemoteFile(TORCHVISION + file, Checksum(digits)),), megabytes,
                 f"biomask train DATA -o MODEL --from {{path}} --recipe {recipe}")


#: Those of torchvision by its own names; _v2 is its second, longer training.
WEIGHTS = (
    _weights("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "Mask R-CNN, trained on COCO", 178, FINETUNE),
    _weights("maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
             "Mask R-CNN with torchvision's later heads, trained on COCO", 186, f"{FINETUNE} --set network.options.version=2"),
    _weights("keypointrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
             "keypoints of people, trained on COCO", 237, FINETUNE),
    _weights("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "Faster R-CNN, trained on COCO", 168,
             f"{FINETUNE} --set network.name=faster-rcnn"),
    _weights("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
             "Faster R-CNN with torchvision's later heads, trained on COCO", 175,
             f"{FINETUNE} --set network.name=faster-rcnn --set network.options.version=2"),
    _weights("resnet18", "resnet18-f37072fd.pth", "ResNet-18, trained on ImageNet", 47, f"{BACKBONE}resnet18"),
    _weights("resnet50", "resnet50-0676ba61.pth", "ResNet-50, trained on ImageNet", 103, f"{BACKBONE}resnet50"),
    _weights("resnet50_v2", "resnet50-11ad3fa6.pth", "ResNet-50, trained longer", 103, f"{BACKBONE}resnet50"),
    _weights("resnet101", "resnet101-63fe2227.pth", "ResNet-101, trained on ImageNet", 179, f"{BACKBONE}resnet101"),
    _weights("resnet101_v2", "resnet101-cd907fc2.pth", "ResNet-101, trained longer", 179, f"{BACKBONE}resnet101"),
    _weights("resnext101_32x8d", "resnext101_32x8d-8ba56ff5.pth", "ResNeXt-101 of 32 groups, trained on ImageNet", 356,
             f"{BACKBONE}resnext101-32x8d"),
    _weights("resnext101_32x8d_v2", "resnext101_32x8d-110c445d.pth", "ResNeXt-101 of 32 groups, trained longer", 356,
             f"{BACKBONE}resnext101-32x8d"),
    _weights("resnext101_64x4d", "resnext101_64x4d-173b62eb.pth", "ResNeXt-101 of 64 groups, trained on ImageNet", 335,
             f"{BACKBONE}resnext101-64x4d"),
    _weights("vgg16", "vgg16-397923af.pth", "VGG-16, trained on ImageNet", 553, "fcn-32s"),
)


def _tracking(name: str, what: str) -> Offer:
    """Training sequences of the Cell Tracking Challenge. Their archives are renewed now and then, so no checksum can be known."""
    return Offer(name.lower(), "data", what, "for research, to be cited, not to be passed on",
                 "https://celltrackingchallenge.net",
                 (RemoteFile(f"https://data.celltrackingchallenge.net/training-datasets/{name}.zip"),),
                 use=f"biomask check {{path}}/{name}")


def _decathlon(task: str, organ: str, what: str, megabytes: int, md5: str) -> Offer:
    """A task of the Medical Segmentation Decathlon, from the copy that MONAI's tutorials use; MONAI publishes the MD5."""
    return Offer(f"msd-{organ}", "data", what, "CC BY-SA 4.0", "http://medicaldecathlon.com",
                 (RemoteFile(f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{task}.tar", Checksum(md5, "md5")),), megabytes,
                 f"biomask check {{path}}/{task}")


DATA = (
    Offer("dsb2018", "data", "nuclei of the Data Science Bowl 2018, 670 images grey and colour, one mask an object", "CC0",
          "https://bbbc.broadinstitute.org/BBBC038",
          (RemoteFile("https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"),), 83, "biomask check {path}"),
    Offer("dsb2018-fluorescence", "data", "447 + 50 of them in fluorescence as object ids, as StarDist's paper used them", "CC0",
          "https://github.com/stardist/stardist", (RemoteFile(
              "https://github.com/stardist/stardist/releases/download/0.1.0/dsb2018.zip",
              Checksum("e44921950edce378063aa4457e625581ba35b4c2dbd9a07c19d48900129f386f")),), None,
          "biomask check {path}/dsb2018"),
    _tracking("DIC-C2DH-HeLa", "HeLa cells in DIC, touching, 2 sequences"),
    _tracking("PhC-C2DH-U373", "glioblastoma cells in phase contrast, 2 sequences"),
    _tracking("PhC-C2DL-PSC", "pancreatic stem cells in phase contrast, small and many, 2 sequences"),
    _tracking("Fluo-N2DH-GOWT1", "nuclei of mouse stem cells in fluorescence, 2 sequences"),
    _tracking("Fluo-N2DL-HeLa", "nuclei of HeLa cells in fluorescence, many, 2 sequences"),
    _tracking("Fluo-N2DH-SIM+", "simulated nuclei in fluorescence, all frames with exact labels, 2 sequences"),
    _decathlon("Task04_Hippocampus", "hippocampus", "anterior and posterior hippocampus in MR volumes, small", 28,
               "9d24dba78a72977dbd1d2e110310f31b"),
    _decathlon("Task02_Heart", "heart", "left atrium in MR volumes", 456, "06ee59366e1e5124267b774dbd654057"),
    _decathlon("Task09_Spleen", "spleen", "spleen in CT volumes", 1610, "410d4a301da4e5b2f6f86ec3ddba524e"),
    _decathlon("Task07_Pancreas", "pancreas", "pancreas and its tumours in CT volumes", 12300, "4f7080cfca169fa8066d17ce6eb061e4"),
    Offer("coco-val2017", "data", "5,000 photographs with 80 kinds of objects, and people's keypoints",
          "annotations CC BY 4.0; each photograph its own", "https://cocodataset.org", (
              RemoteFile("http://images.cocodataset.org/zips/val2017.zip", Checksum("442b8da7639aecaf257c1dceb8ba8c80", "md5")),
              RemoteFile("http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
                         Checksum("f4bbac642086de4f52a3fdda2de5fa2c", "md5"))), 1068,
          "biomask check {path}/val2017 --masks {path}/annotations/instances_val2017.json"),
)

#: All of them by name.
OFFERS = MappingProxyType({o.name: o for o in (*WEIGHTS, *DATA)})


def offer(name: str) -> Offer:
    """By its name or, for weights, its file's. Raises UsageError for one that is not known."""
    by_file = {o.files[0].name: o for o in WEIGHTS}
    found = OFFERS.get(name.lower()) or by_file.get(name)
    if found is None:
        near = get_close_matches(name.lower(), OFFERS, 1)
        raise UsageError(f"{name!r} is not among what biomask knows to fetch",
                         fix=(f"did you mean {near[0]}? " if near else "") + "biomask datasets lists all")
    return found
