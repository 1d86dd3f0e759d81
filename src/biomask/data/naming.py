"""Which file names mean the same image: `x.png` and `x_mask.png`, `img_07` and `labels_07`."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

#: What people add to names of label files and of image files.
MASK_WORDS = ("cp_masks", "groundtruth", "ground_truth", "ground-truth", "segmentation", "annotation", "annotations", "instances",
              "instance", "roiset", "masks", "mask", "labels", "label", "truth", "rois", "manual1", "manual", "lbl", "msk", "seg",
              "gt", "overlay", "anno")
IMAGE_WORDS = ("images", "image", "imgs", "img", "raw", "training")

_SEPARATOR = r"[_\-. ]+"


def normal(stem: str) -> str:
    """A name in the one form that compares alike on every disk: macOS takes umlauts apart."""
    return unicodedata.normalize("NFC", stem)


def plain(stem: str) -> str:
    """The name without words that say "image" or "mask", folded: what an image and its mask have in common.

    >>> plain("cells/img_07"), plain("cells/labels_07"), plain("x-labels"), plain("mask2d")
    ('cells/07', 'cells/07', 'x', '2d')
    """
    path = PurePosixPath(normal(stem).casefold())
    return (path.parent / _strip(_strip(path.name, MASK_WORDS), IMAGE_WORDS)).as_posix()


def says_mask(stem: str) -> bool:
    """Whether a name says that the file holds labels.

    >>> says_mask("x_mask"), says_mask("mask2d"), says_mask("gtpase_01")
    (True, True, False)
    """
    name = PurePosixPath(normal(stem).casefold()).name
    return _strip(name, MASK_WORDS) != name


def _strip(name: str, words: tuple[str, ...]) -> str:
    """Without one word, and what separates it; at an end first. A word stands alone, or beside a digit."""
    for pattern in _patterns(words):
        found = pattern.fullmatch(name)
        if found:
            return "".join(found.groups())
    return name


@lru_cache(maxsize=4)
def _patterns(words: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    either = "|".join(map(re.escape, words))
    return tuple(re.compile(p) for p in (
        rf"(.+?){_SEPARATOR}(?:{either})", rf"(?:{either}){_SEPARATOR}(.+)", rf"(?:{either})(\d.*)", rf"(.*\d)(?:{either})",
        rf"(.+?){_SEPARATOR}(?:{either})({_SEPARATOR}.+)"))


def match(images: Sequence[str], labels: Sequence[str], *, anywhere: bool = False) -> tuple[dict[str, str], str]:
    """({image stem: label stem}, how the names correspond) for as many as possible, by the first rule that fits.

    Rules: same name; same name in another spelling (capitals, taken-apart umlauts); label names with one common prefix
    or suffix; names without words like "image" and "mask"; image names with nnU-Net's number of the first channel. A
    rule is taken if it finds a partner for more than the ones before; within a rule no label serves two images. One
    image alone goes with the only labels, unless their names hold different numbers. anywhere: the folders of names need
    not agree, for labels that the user points to.
    """
    best: dict[str, str] = {}
    reason = "same names"
    rules: list[tuple[Callable[[str], str], str]] = [
        (str, "same names"), (lambda s: normal(s).casefold(), "same names but for capitals or accents"),
        *_affix_rules(images, labels), (plain, 'same names but for words such as "mask"'),
        (lambda s: re.sub(r"_0000$", "", normal(s)), "same names but for the channel number _0000")]
    if anywhere:
        rules.append((lambda s: PurePosixPath(normal(s)).name, "same names, whatever the folder"))
    for rule, said in rules:
        found = _by(rule, images, labels)
        if len(found) > len(best):
            best, reason = found, said
    if not best and len(images) == len(labels) == 1 and not _other_numbers(images[0], labels[0]):
        return {images[0]: labels[0]}, "the only image and the only labels"
    return best, reason


def _other_numbers(a: str, b: str) -> bool:
    """Whether both names hold numbers, and different ones."""
    first, second = ([int(n) for n in re.findall(r"\d+", name)] for name in (a, b))
    return bool(first and second) and first != second


def _by(rule: Callable[[str], str], images: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Partners whose names become equal by the rule, where each is the only one."""
    left, right = ([(rule(s), s) for s in names] for names in (images, labels))
    single = [{k for k, n in Counter(k for k, _ in side).items() if n == 1} for side in (left, right)]
    there = {k: s for k, s in right if k in single[1]}
    return {s: there[k] for k, s in left if k in single[0] and k in there}


def _affix_rules(images: Sequence[str], labels: Sequence[str]) -> list[tuple[Callable[[str], str], str]]:
    """The prefix and suffix that most label names have beyond an image's name."""
    stems = {PurePosixPath(normal(s)).name for s in images}
    lengths = {len(s) for s in stems}
    votes: Counter[tuple[str, str]] = Counter()
    for label in labels[:200]:
        name = PurePosixPath(normal(label)).name
        for start in range(len(name)):
            for stop in (start + n for n in lengths if start + n <= len(name)):
                if (start or stop < len(name)) and name[start:stop] in stems and _may_be_added(name, start, stop):
                    votes[name[:start], name[stop:]] += 1
    rules: list[tuple[Callable[[str], str], str]] = []
    for (prefix, suffix), _ in votes.most_common(1):
        said = "masks are named like the images, with " + " and ".join(
            part for part in (f"{prefix!r} before" if prefix else "", f"{suffix!r} after" if suffix else "") if part)
        rules.append((lambda s, p=prefix, e=suffix: _without(normal(s), p, e), said))  # type: ignore[misc]
    return rules


def _may_be_added(name: str, start: int, stop: int) -> bool:
    """Whether what surrounds name[start:stop] makes no other number of it: 1 and 10, t1 and t1_z2 are different images.

    Numbers of words for masks are none of images: "_mask2d", "_seg_v2".
    """
    cut = any(name[i - 1 : i].isdigit() and name[i : i + 1].isdigit() for i in (start, stop) if i)
    added = name[:start] + " " + name[stop:]
    told = set(re.findall(r"[^\W\d_]+", added.casefold())) & set(MASK_WORDS)
    return not cut and (bool(told) or not any(c.isdigit() for c in added))


def _without(stem: str, prefix: str, suffix: str) -> str:
    path = PurePosixPath(stem)
    name = path.name
    if len(name) > len(prefix) + len(suffix) and name.startswith(prefix) and name.endswith(suffix):
        name = name[len(prefix): len(name) - len(suffix)]
    return (path.parent / name).as_posix()


def nearest(stem: str, others: Sequence[str]) -> str | None:
    """The most similar of other names, if any is."""
    close = difflib.get_close_matches(stem, others, n=1, cutoff=0.4)
    return close[0] if close else None


def unmatched_lines(missing: Sequence[str], free: Sequence[str], shown: Mapping[str, str], most: int = 20) -> list[str]:
    """One line for each name without a partner, with the nearest free one; at most `most` and a count of the others.

    shown: how a name is printed. Comparing thousands with thousands takes minutes, so only what is shown is compared.
    """
    lines = []
    for stem in missing[:most]:
        close = nearest(stem, free[:2000])
        lines.append(shown[stem] + (f" (nearest: {shown[close]})" if close else ""))
    return lines + ([f"… and {len(missing) - most} more"] if len(missing) > most else [])
