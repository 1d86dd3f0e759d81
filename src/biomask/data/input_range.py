"""What the training images were like, kept in the model file; and in what an image that is predicted differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from biomask.data.appearance import Appearance

#: Lowest and highest over the training images.
Span = tuple[float, float]

#: Pixels of another size than this, relative to the training's, are said.
SPACING_TOLERANCE = 0.1

#: How far beyond the training images a figure may lie, of many of them: brightness in typical contrasts; contrast and detail in
#: powers of two; the place of the middle between dark and bright.
BRIGHTNESS, CONTRAST, DETAIL, POSITION = 0.5, 0.85, 0.25, 0.05

#: With n training images a limit is 1 + FEW / n times as far away: what few images show is not the range of all.
FEW = 4

#: Brightness is another only if it differs by this factor too, where both values are above 0: 0 means nothing below it.
FACTOR = 1.25

#: In what images can be outside the range, in the words of a sentence about several.
DIFFERENCES: Mapping[str, str] = {
    "spacing": "have pixels of another size than the training images",
    "dtype": "have another bit depth than any in training",
    "colour": "are in colour, those in training are grey",
    "grey": "are grey, those in training are in colour",
    "dark": "are darker than any in training",
    "bright": "are brighter than any in training",
    "flat": "have less contrast than any in training",
    "steep": "have more contrast than any in training",
    "inverted": "look like negatives of those in training",
    "blurred": "are blurrier than any in training, or enlarged",
    "noisy": "are noisier or sharper than any in training",
}


class InputRange(BaseModel):
    """The range of the training images, the held-out ones included."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    images: int
    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    """Sizes in pixels along each axis."""
    dtypes: tuple[str, ...]
    spacing: dict[str, Span] | None
    """µm a pixel along each axis; None where it is not known of every image."""
    dark: tuple[Span, ...]
    middle: tuple[Span, ...]
    bright: tuple[Span, ...]
    contrast: tuple[Span, ...]
    position: tuple[Span, ...]
    """Of each channel; see `Appearance`."""
    typical_contrast: tuple[float, ...]
    """Median over the images, of each channel."""
    detail: tuple[Span, ...]
    """Of the four figures; empty where no image is large enough."""
    grey: tuple[bool, ...]
    """Whether three channels are all the same: of any image, of all."""

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, ...]], spacings: Sequence[Mapping[str, float] | None],
           looks: Sequence[Appearance]) -> InputRange:
        """The range of images with these sizes, spacings and figures; there is at least one of each."""
        from statistics import median

        columns = {name: tuple(zip(*(getattr(a, name) for a in looks), strict=True)) for name in
                   ("dark", "middle", "bright", "contrast", "position")}
        details = [a.detail for a in looks if a.detail is not None]
        known = [s for s in spacings if s]
        return cls(
            images=len(sizes), smallest=tuple(min(n) for n in zip(*sizes, strict=True)),
            largest=tuple(max(n) for n in zip(*sizes, strict=True)), dtypes=tuple(sorted({a.dtype for a in looks})),
            spacing={a: _span([s[a] for s in known]) for a in known[0]} if len(known) == len(sizes) else None,
            typical_contrast=tuple(_short(median(c)) for c in columns["contrast"]),
            detail=tuple(_span(d) for d in zip(*details, strict=True)),
            grey=(any(a.grey for a in looks), all(a.grey for a in looks)),
            **{name: tuple(_span([v for v in values if v is not None] or [0.5]) for values in column)
               for name, column in columns.items()})

    def differences(self, look: Appearance | None) -> dict[str, str]:
        """In what the look of an image lies outside the range: a key of DIFFERENCES: what is to be said of it. The spacing is
        compared by `spacing_difference`."""
        found = dict[str, str]()
        if look is None:
            return found
        if look.dtype not in self.dtypes:
            found["dtype"] = f"its values are {look.dtype}, in training {' or '.join(self.dtypes)}"
        if len(look.dark) == 3 and look.grey and not self.grey[0]:
            found["grey"] = "its three channels are all the same, in training they were not"
        if len(look.dark) == 3 and not look.grey and self.grey[1]:
            found["colour"] = "it is in colour, the training images are grey"
        return found | self._intensity(look) | self._detail(look)

    @property
    def usual_spacing(self) -> dict[str, float] | None:
        """The middle of the spacings, along each axis."""
        return None if self.spacing is None else {a: (low * high) ** 0.5 for a, (low, high) in self.spacing.items()}

    @property
    def _slack(self) -> float:
        return 1 + FEW / self.images

    def _intensity(self, look: Appearance) -> dict[str, str]:
        """Whether it looks like a negative, or else of the first channel that lies outside."""
        known = [(place, span) for place, span in zip(look.position, self.position, strict=False) if place is not None]
        if known and all(self._swapped(place, span) for place, span in known):
            return {"inverted": "bright and dark are swapped against the training images"}
        for c, contrast in enumerate(look.contrast):
            if c >= len(self.bright):
                break
            margin = BRIGHTNESS * self._slack * self.typical_contrast[c]
            pairs = [(look.middle[c], self.middle[c]), (look.bright[c], self.bright[c])]
            above = any(value > high + margin and _is_another(value, high) for value, (_, high) in pairs)
            below = any(value < low - margin and _is_another(value, low) for value, (low, _) in pairs)
            of = f"channel {c} of it: " if len(look.dark) > 1 else ""
            if above or below:
                return {"bright" if above else "dark":
                        f"{of}99 % of its pixels are below {look.bright[c]:.4g}, in training below {_text(self.bright[c])}; "
                        f"half are below {look.middle[c]:.4g}, in training below {_text(self.middle[c])}"}
            low, high = self.contrast[c]
            factor = 2.0 ** (CONTRAST * self._slack)
            if contrast * factor < low or contrast > high * factor:
                return {"flat" if contrast < low else "steep":
                        f"{of}its grey values span {contrast:.4g}, in training {_text(self.contrast[c])}"}
        return {}

    def _swapped(self, place: float, span: Span) -> bool:
        """Whether a negative of the image would lie in the range, and the image itself does not."""
        low, high = span[0] - POSITION * self._slack, span[1] + POSITION * self._slack
        return not low <= place <= high and low <= 1 - place <= high

    def _detail(self, look: Appearance) -> dict[str, str]:
        """Only where all figures say so, or the last two, which the contrast does not touch, say it twice as clearly."""
        if look.detail is None or not self.detail:
            return {}
        margin = DETAIL * self._slack
        under = [low - value for value, (low, _) in zip(look.detail, self.detail, strict=True)]
        over = [value - high for value, (_, high) in zip(look.detail, self.detail, strict=True)]
        if min(under) > margin or min(under[2:]) > 2 * margin:
            return {"blurred": "it has less fine detail than any training image: out of focus, smoothed or enlarged"}
        if min(over) > margin or min(over[2:]) > 2 * margin:
            return {"noisy": "it has more fine detail than any training image: noise, sharpening or a reduced size"}
        return {}


def rescale_factors(spacing: Mapping[str, float] | None, usual: Mapping[str, float] | None) -> tuple[float, ...] | None:
    """What an image must be resampled by so that its pixels have the size of the training's, one factor an axis.

    None where either is unknown, and where no axis differs by more than SPACING_TOLERANCE.

    >>> rescale_factors({"y": 0.25, "x": 0.25}, {"y": 0.5, "x": 0.5})
    (0.5, 0.5)
    """
    if not spacing or not usual or set(spacing) != set(usual):
        return None
    factors = tuple(spacing[a] / usual[a] for a in "zyx" if a in spacing)
    return factors if any(max(f, 1 / f) > 1 + SPACING_TOLERANCE for f in factors) else None


def spacing_difference(spacing: Mapping[str, float] | None, usual: Mapping[str, float] | None) -> dict[str, str]:
    """What is to be said of an image's spacing, as `InputRange.differences` does; with the --rescale that makes pixels alike."""
    factors = rescale_factors(spacing, usual)
    if factors is None:
        return {}
    return {"spacing": f"a pixel is {spacing_text(spacing)}, in training {spacing_text(usual)}: --rescale {factors_text(factors)}"}


def factors_text(factors: Sequence[float]) -> str:
    """As `--rescale` takes it: one factor where all are the same.

    >>> factors_text((0.5, 0.5)), factors_text((1.0, 0.52, 0.52))
    ('0.5', '1,0.52,0.52')
    """
    texts = [f"{f:.3g}" for f in factors]
    return texts[0] if len(set(texts)) == 1 else ",".join(texts)


def spacing_text(spacing: Mapping[str, float] | None) -> str:
    """Micrometres a pixel, for people: "0.25 µm", "2 × 0.5 × 0.5 µm" (z, y, x)."""
    texts = [f"{spacing[a]:.3g}" for a in "zyx" if a in spacing] if spacing else ["?"]
    return (texts[0] if len(set(texts)) == 1 else " × ".join(texts)) + " µm"


def _is_another(value: float, limit: float) -> bool:
    """Whether a brightness differs from a limit by FACTOR, where both are above 0."""
    return min(value, limit) <= 0 or max(value, limit) > FACTOR * min(value, limit)


def _span(values: Sequence[Any]) -> Span:
    return _short(min(values)), _short(max(values))


def _short(value: float) -> float:
    """Six digits: what stands in the model file can be read."""
    return float(f"{value:.6g}")


def _text(span: Span) -> str:
    low, high = (f"{v:.4g}" for v in span)
    return low if low == high else f"{low} to {high}"
