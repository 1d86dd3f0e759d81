"""The recipe: everything that defines a training, as nested frozen pydantic models; YAML out and in."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from biomask.errors import InputError, MissingPathError, UsageError
from biomask.labels import LabelKind
from biomask.stored import Selection, parse_axes

Pixels = Annotated[int, Field(ge=1)]
Micrometres = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]

_BEGIN_WITH = "biomask recipes show default prints one to begin with"


def _label_value(value: int | str) -> int | str:
    """Digits as a number, a colour in small letters. Raises ValueError for anything else."""
    if isinstance(value, int):
        return value
    if re.fullmatch(r"-?\d+", value.strip()):
        return int(value)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", value.strip()):
        return value.strip().lower()
    raise ValueError(f"{value!r} is neither a value nor a colour such as #ff0000")


#: A value of a mask, or its colour "#rrggbb".
LabelValue = Annotated[int | str, AfterValidator(_label_value)]
#: A channel by name or by number.
Channel = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int) else v)]
#: A copy of an image: turned from y to x by so many degrees, "mirror" = mirrored along x before.
Rotation = Annotated[Literal["0", "90", "180", "270", "mirror 0", "mirror 90", "mirror 180", "mirror 270"],
                     BeforeValidator(lambda v: str(v) if isinstance(v, int) else v)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _within_64_bits(cls, value: Any) -> Any:
        """Python's integers have no end; nothing that is computed with them here goes on."""
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("has more than 64 bits")
        return value


class NetworkSettings(_Settings):
    """Which network, and how it is built."""

    name: str = Field("unet", description="a name in biomask.models.MODELS or DETECTORS")
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="keyword arguments of its constructor, but in_channels, classes, spatial_dims")


class DataSettings(_Settings):
    """What is read, and what is held out."""

    kind: LabelKind | None = Field(None, description="kind of labels; null = inferred, with the reason printed")
    ignore: int | None = Field(None, description="label value of pixels where nothing is known")
    legend: dict[LabelValue, str] | None = Field(
        None, description="value: name, of a colour-coded mask '#rrggbb': name; null = the values found")
    values: tuple[int, ...] | None = Field(None, description="each mask value stands for the nearest of these; null = as it is")
    tolerance: int = Field(48, ge=0, le=441, description="distance in RGB up to which a colour is taken for one of the legend")
    mask_scale: float | None = Field(None, gt=0, description="image pixels a mask pixel, of masks exported at a downsample")
    unlabelled: Literal["ignore", "background"] | None = Field(
        None, description="what an image or slice without labels means; null = asked where there is one")
    axes: str | None = Field(None, description="what the axes of the files are, e.g. ZYX; null = as the files say")
    channels: tuple[Channel, ...] | None = Field(None, description="channels used, by name or by number from 0; null = all")
    z: int | Literal["max", "each"] | None = Field(
        None, description="a plane by number from 0, max = brightest, each = every plane is an image; null = volumes stay volumes")
    time: int | Literal["each"] | None = Field(None, description="a time point by number from 0, or each; null = files have one")
    groups: str | None = Field(None, description="what is never split: folder, column:NAME, a pattern such as (.*)_\\d+, none, "
                                                 "or null = as a split.csv says, else images found to belong together")
    keypoints: bool = Field(False, description="of several COCO files about the same images, take those that name keypoints")
    spacing: dict[str, Micrometres] | None = Field(None, description="µm per pixel to resample to; null = as it is")
    validation_share: float = Field(0.1, ge=0, lt=1, description="share of the images held out to choose the best")

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, axes: str | None) -> str | None:
        return parse_axes(axes)

    @property
    def selection(self) -> Selection:
        """Which axes, channels, planes and time points make an image."""
        return Selection(self.axes, self.channels, self.z, self.time)


class NormalizationSettings(_Settings):
    """How grey values become network input; the same object trains, predicts and is exported."""

    method: Literal["zscore", "percentile", "none"] | None = Field(
        "zscore", description="over the whole image, per channel; null = chosen from the grey values")
    low: float = Field(1.0, ge=0, lt=100, description="lower percentile, for method percentile")
    high: float = Field(99.8, gt=0, le=100, description="upper percentile, for method percentile")

    @model_validator(mode="after")
    def _ordered(self) -> NormalizationSettings:
        if self.low >= self.high:
            raise ValueError(f"normalization.low {self.low} must be below normalization.high {self.high}")
        return self


class AugmentationSettings(_Settings):
    """How patches are varied; never an axis that carries meaning. Chances are those of one sample."""

    flip: tuple[Literal["z", "y", "x"], ...] = Field(("y", "x", "z"), description="axes that may be mirrored")
    rotate90: bool = Field(True, description="quarter turns in the y-x plane (square patches only)")
    warp: Chance | None = Field(0.0, description="chance of a rotation, scaling and elastic deformation, the others keep their "
                                                 "pixels; null = chosen from how often each pixel will be seen")
    rotate: float = Field(180.0, ge=0, le=180, description="largest rotation in the y-x plane, degrees")
    scale: float = Field(0.2, ge=0, lt=1, description="objects become at most this share larger or smaller")
    elastic: float = Field(10.0, ge=0, description="standard deviation of the displacements on a 3 x 3 grid, px (the paper: 10)")
    intensity: Chance = Field(0.0, description="chance of each of: brightness and contrast, gamma")
    blur: Chance = Field(0.0, description="chance of a Gaussian blur of up to 1.5 px")
    noise: Chance = Field(0.0, description="chance of Gaussian noise of up to 0.15 of the normalised grey values")
    stain: Chance = Field(0.0, description="chance of a change of stains, of images with three channels")


class LossSettings(_Settings):
    """A weighted sum of losses."""

    cross_entropy: float = Field(1.0, ge=0, description="weight of the cross-entropy: softmax of classes, sigmoid of structures")
    dice: float = Field(1.0, ge=0, description="weight of the soft Dice loss")
    tversky: float = Field(0.0, ge=0, description="weight of the Tversky loss of what is not background")
    tversky_alpha: float = Field(0.3, ge=0, description="of tversky: what a pixel costs that is wrongly predicted")
    tversky_beta: float = Field(0.7, ge=0, description="of tversky: what a pixel costs that is missed")
    focal: float = Field(0.0, ge=0, description="weight of the focal loss")
    focal_gamma: float = Field(2.0, ge=0, description="of focal: how much less pixels count that are right and sure")
    published: Literal["optic-disc", "unet++", "unet++-printed", "attention"] | None = Field(
        None, description="a whole loss in place of the four above: BCE + Dice of the optic-disc article, BCE - Dice of UNet++'s "
                          "code or as its paper prints it, Dice of the Attention U-Net's code; null = their sum")
    class_weights: tuple[Weight, ...] | None = Field(None, description="weight of each class in cross-entropy and focal loss")
    distance: float = Field(1.0, ge=0, description="of instances: weight of the distance channel's cross-entropy")
    border: float = Field(0.5, ge=0, description="of instances: weight of the border channel's cross-entropy")
    heads: tuple[Weight, ...] | None = Field(
        None, description="of a network with several heads (UNet++): weight of each, the final one last; null = alike")

    @model_validator(mode="after")
    def _something(self) -> LossSettings:
        if self.published is None and not (self.cross_entropy or self.dice or self.tversky or self.focal):
            raise ValueError("loss.cross_entropy, loss.dice, loss.tversky and loss.focal are all 0: nothing would be learnt")
        if self.published is not None and self.class_weights is not None:
            raise ValueError(f"loss.published={self.published} has no class weights: take loss.published=null")
        if self.heads is not None and not any(self.heads):
            raise ValueError("loss.heads are all 0: nothing would be learnt")
        return self


class InstanceSettings(_Settings):
    """How objects become targets."""

    target: Literal["distance", "borders"] = Field(
        "distance", description="distance = centres and borders as channels of their own; borders = the U-Net paper's: touching "
                                "borders are background, and weigh more in the cross-entropy")
    border_width: int = Field(1, ge=1, description="pixels on each side of a touching border that belong to it")
    w0: float = Field(10.0, ge=0, description="of target borders: weight of a border between touching objects (the paper: 10)")
    sigma: float = Field(5.0, gt=0, description="of target borders: how far the weight reaches, px (the paper: 5)")
    balance: bool = Field(False, description="of target borders: pixels weigh by the inverse share of their class too, over the "
                                             "training images, unless loss.class_weights are given (the paper's w_c)")
    weights: Literal["paper", "plug-in"] = Field(
        "paper", description="of target borders: the paper's formula, or the later one of its authors' plug-in, which has its own "
                             "constants and no w0, sigma and class weights")


class DetectionSettings(_Settings):
    """Of detectors (Mask R-CNN, Faster R-CNN). Their network takes null for what is chosen from the objects: anchor_sizes, masks,
    keypoints and limits.detections."""

    largest_patch: Pixels = Field(
        256, description="where training.patch and the network's short_side are null: side of the crops, at most; where objects "
                         "are too large for them, what the images' shorter side is resized to")
    reference_batch: int | None = Field(None, ge=1, description="images a step that training.lr is for; with others the rate is in "
                                                                "proportion; null = it is as given")
    passes: float | None = Field(None, gt=0, description="without a budget: how often each image is seen, about; null = until the "
                                                         "score is flat")


class TrainingSettings(_Settings):
    """Optimisation, budget and sampling. Training counts steps, not epochs."""

    steps: int | None = Field(None, ge=1, description="budget in optimisation steps")
    minutes: float | None = Field(None, gt=0, description="budget in wall time, validation included")
    until_flat: bool = Field(False, description="stop before the budget ends when the held-out images score no better")
    patience: int = Field(6, ge=1, description="with until_flat: validations without a better score until the rate is brought down")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="every random choice follows from it")
    batch: int | None = Field(4, ge=1, description="patches a step, over all devices together; null = chosen")
    patch: tuple[Pixels, ...] | None = Field(None, description="output pixels of a patch, (y, x) or (z, y, x); null = chosen")
    oversample: float | None = Field(0.0, ge=0, le=1, description="share of the patches laid on an object or a rare class, "
                                                                  "where random places would miss them; null = chosen")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="adamw, adam, or sgd with momentum")
    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    momentum: float = Field(0.99, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled (adamw) or L2 (adam, sgd)")
    schedule: Literal["cosine", "constant", "step"] = Field(
        "cosine", description="cosine reaches 0 when the budget ends, step falls by drop_factor at every drop_every")
    drop_every: float = Field(0.2, gt=0, le=1, description="of schedule step: share of the budget between two falls of the rate")
    drop_at: tuple[Chance, ...] | None = Field(
        None, description="of schedule step: shares of the budget at which the rate falls, in place of drop_every")
    drop_factor: float = Field(0.1, gt=0, lt=1, description="of schedule step: what the rate is multiplied by at each fall")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the budget over which the rate rises")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null = any")
    average: float | None = Field(None, gt=0, le=1, description="share of the steps so far that a running average of the weights "
                                                                "looks back on, kept where it scores better; null = none")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto = bfloat16 where the device is faster with it; weights stay float32")
    validations: int = Field(10, ge=1, description="how often the held-out images are scored")

    @model_validator(mode="after")
    def _one_budget(self) -> TrainingSettings:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("give training.steps or training.minutes, not both")
        return self


class PredictionSettings(_Settings):
    """How the trained network is applied unless the command says otherwise."""

    tile: Pixels | Literal["whole", "auto"] = Field("auto", description="pixels kept a tile, whole, or auto = by memory")
    augment: Literal["none", "mirrors", "symmetries", "rotations"] | None = Field(
        "none", description="mean over mirrored copies, all symmetries of the square, or those in rotations; null = whether "
                            "symmetries help is tried when training ends")
    rotations: tuple[Rotation, ...] = Field(
        ("0", "90", "180", "270", "mirror 0", "mirror 90", "mirror 180"), min_length=1,
        description="of augment rotations: the copies, each turned in y-x by so many degrees, mirror = mirrored along x before "
                    "(the U-Net paper: seven, and not which); those that the data forbid are left out")
    calibrate: bool = Field(False, description="of two classes: bring probabilities to how often they are right on the images held "
                                               "out, by a monotone cubic (Ciresan et al. 2012)")
    median: int = Field(0, ge=0, le=20, description="of classes: radius in px of a median filter over the probabilities; 0 = none")


class Recipe(_Settings):
    """Everything that defines a training."""

    name: str = Field(description="by system, e.g. default, unet-2015")
    title: str = Field("", description="one line")
    source: str = Field("", description="the paper or code that it follows")
    choices: tuple[str, ...] = Field((), description="what was chosen where the source is silent")
    network: NetworkSettings = NetworkSettings()
    data: DataSettings = DataSettings()
    normalization: NormalizationSettings = NormalizationSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    instances: InstanceSettings = InstanceSettings()
    detection: DetectionSettings = DetectionSettings()
    training: TrainingSettings = TrainingSettings()
    prediction: PredictionSettings = PredictionSettings()

    @model_validator(mode="after")
    def _weights_fit(self) -> Recipe:
        if self.loss.published is not None and self.instances.target == "borders":
            raise ValueError(f"loss.published={self.loss.published} has no weights of pixels, and instances.target=borders needs "
                             "them: take loss.published=null")
        return self

    def to_yaml(self) -> str:
        """The recipe as YAML, in the order of the fields."""
        import yaml

        class Dumper(yaml.SafeDumper):
            def ignore_aliases(self, data: Any) -> bool:
                return True  # they are not read either

        return str(yaml.dump(self.model_dump(mode="json"), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """Read what `to_yaml` wrote. Raises InputError with the place of each mistake."""
        path = Path(path)
        if not path.is_file():
            raise MissingPathError("no such recipe file", where=path, fix="biomask recipes lists those that come with biomask")
        try:
            content = _load_yaml(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"is not YAML ({error})", where=path, fix=_BEGIN_WITH) from error
        if not isinstance(content, dict):
            raise InputError("holds no recipe: expected 'name:', 'network:', …", where=path,
                             fix=_BEGIN_WITH)
        try:
            return cls.model_validate({"name": path.stem} | content)
        except ValidationError as error:
            raise InputError(explain(error), where=path, fix=_BEGIN_WITH) from error

    def with_settings(self, settings: Sequence[str]) -> Recipe:
        """A copy with `section.key=value` settings applied, values in YAML.

        >>> Recipe(name="default").with_settings(["training.lr=1e-4"]).training.lr
        0.0001

        Raises UsageError naming the nearest key that exists.
        """
        content = self.model_dump()
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise UsageError(f"--set {_short(setting)} is not of the form section.key=value", fix="--set training.lr=1e-4")
            _assign(content, key.strip().split("."), _value(text), setting)
        try:
            return type(self).model_validate(content)
        except ValidationError as error:
            raise UsageError(f"--set: {explain(error)}") from error


def _short(text: str) -> str:
    """In quotes, of a long one the beginning."""
    return repr(text if len(text) < 100 else f"{text[:90]} …")


def _value(text: str) -> Any:
    """A YAML scalar or list; YAML 1.1 reads 1e-4 as text, so numbers are tried first."""
    try:
        return float(text) if not text.strip().lstrip("+-").isdigit() else int(text)
    except ValueError:
        try:
            return _load_yaml(text)
        except ValueError as error:
            raise UsageError(f"--set value {_short(text)} is not YAML ({error})",
                             fix="e.g. --set training.patch=[256,256]") from error


def _load_yaml(text: str) -> Any:
    """Plain YAML. Raises ValueError for anything else, also for aliases: a few lines of them can stand for any amount of memory."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not taken")
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _assign(content: dict[str, Any], path: list[str], value: Any, setting: str) -> None:
    """Set one nested key; free keys are allowed only below network.options."""
    node, walked = content, list[str]()
    for key in path[:-1]:
        if not isinstance(node.get(key), dict):
            raise UsageError(f"--set {_short(setting)}: no section {'.'.join([*walked, key])!r}", fix=_nearest(key, node))
        node = node[key]
        walked.append(key)
    if path[-1] not in node and walked != ["network", "options"]:
        raise UsageError(f"--set {_short(setting)}: no setting {'.'.join(path)!r}", fix=_nearest(path[-1], node))
    node[path[-1]] = value


def _nearest(key: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def explain(error: ValidationError) -> str:
    """pydantic's findings in one line: place, message, value met, of long ones the beginning."""
    return "; ".join(
        f"{'.'.join(str(p) for p in e['loc']) or 'recipe'}: {e['msg'].removeprefix('Value error, ')}"
        + (f" (got {reprlib.repr(e['input'])})" if e["loc"] and e["type"] != "missing" else "")
        for e in error.errors()
    )
