"""Planted faults are named, untouched data are not, and where outlines follow no edges nothing is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data import misfits as misfits_module
from biomask.data.fit import KEPT_SIDE, SMALLEST_SIDE, TURNS, FitSignature, fit_signature
from biomask.data.misfits import Misfit, misfits
from biomask.errors import SizeError

Pair = tuple[np.ndarray, np.ndarray]
SIDE = 96

#: In the order of TURNS.
TURN: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda m: m, np.fliplr, np.flipud, lambda m: np.rot90(m, 2), np.transpose, lambda m: np.rot90(m, -1), np.rot90,
    lambda m: np.rot90(m.T, 2),
]
#: The turn that undoes each: those by 90° undo each other.
UNDONE_BY = [0, 1, 2, 3, 4, 6, 5, 7]


def discs(seed: int, count: int = 12, side: int = SIDE, contrast: float = 60) -> Pair:
    """Discs of many sizes in noise: image (1, Y, X) uint8 and instance ids (Y, X)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    ids = np.zeros((side, side), np.int32)
    for number in range(1, count + 1):
        y, x, radius = rng.uniform(8, side - 8), rng.uniform(8, side - 8), rng.uniform(4, 8)
        ids[((rows - y) ** 2 + (columns - x) ** 2 < radius**2) & (ids == 0)] = number
    image = 100 + contrast * (ids > 0) + rng.normal(0, 12, ids.shape)
    return image.clip(0, 255).astype(np.uint8)[None], ids


def moved(mask: np.ndarray, y: int, x: int) -> np.ndarray:
    """The mask moved down and to the right, with background where nothing is known."""
    out = np.full_like(mask, mask.min())
    height, width = mask.shape
    out[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)] = mask[
        max(0, -y) : height + min(0, -y), max(0, -x) : width + min(0, -x)]
    return out


def signed(pairs: list[Pair], kind: str = "instances") -> list[FitSignature | None]:
    return [fit_signature(image, ids, kind) for image, ids in pairs]  # type: ignore[arg-type]


def named(found: list[Misfit]) -> dict[int, str]:
    return {m.index: m.kind for m in found}


def shift_of(misfit: Misfit) -> tuple[int, int]:
    y, x = re.findall(r"[+-]\d+", misfit.detail)
    return int(y), int(x)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [discs(seed) for seed in range(10)]


@pytest.fixture(scope="module")
def good(pairs: list[Pair]) -> list[FitSignature | None]:
    return signed(pairs)


def test_good_pairs_are_not_named(good):
    assert misfits(good) == []
    for s in good:
        assert s.off < 1
        assert s.own > 2 * max(s.turned[1:])


@settings(max_examples=25, deadline=None)
@given(index=st.integers(0, 9), y=st.integers(-20, 20), x=st.integers(-20, 20))
def test_a_shift_is_named_with_the_way_back(pairs, good, index, y, x):
    """Moves of 4 pixels and more; up to 1 less is at rest, and what lies between may go either way."""
    image, ids = pairs[index]
    found = misfits([*good[:index], fit_signature(image, moved(ids, y, x), "instances"), *good[index + 1 :]])
    if np.hypot(y, x) >= 4:
        assert named(found) == {index: "shifted"}
        assert np.hypot(*np.add(shift_of(found[0]), (y, x))) <= 1.5
        assert 0.2 <= found[0].score <= 1
    elif np.hypot(y, x) <= 1:
        assert found == []


def test_the_shift_of_a_large_image_is_in_its_own_pixels():
    """800² is looked at at a third; the way back is still told to a pixel or two."""
    small = [discs(seed, side=160) for seed in range(4)]
    large = [(np.kron(image, np.ones((1, 5, 5), np.uint8)), np.kron(ids, np.ones((5, 5), np.int32))) for image, ids in small]
    large[2] = large[2][0], moved(large[2][1], -30, 17)
    [found] = misfits(signed(large))
    assert (found.index, found.kind) == (2, "shifted")
    assert np.abs(np.subtract(shift_of(found), (30, -17))).max() <= 2


def test_swapped_masks_name_each_other(pairs, good):
    both = [fit_signature(pairs[a][0], pairs[b][1], "instances") for a, b in ((3, 8), (8, 3))]
    found = misfits([*good[:3], both[0], *good[4:8], both[1], good[9]])
    assert [(m.index, m.kind, m.other) for m in found] == [(3, "swapped", 8), (8, "swapped", 3)]
    assert "exchanged" in found[0].detail


def test_masks_that_are_off_by_one_name_the_image_they_fit(pairs):
    """Every mask is the next image's, so that there is no usual fit to compare with."""
    found = misfits([fit_signature(image, pairs[i - 1][1], "instances") for i, (image, _) in enumerate(pairs)])
    assert [(m.index, m.kind, m.other) for m in found] == [(i, "swapped", (i + 1) % len(pairs)) for i in range(len(pairs))]
    assert "exchanged" not in found[0].detail


def test_of_many_pairs_only_the_poor_are_compared(pairs, good, monkeypatch):
    monkeypatch.setattr(misfits_module, "MOST_COMPARED", 4)
    both = [fit_signature(pairs[a][0], pairs[b][1], "instances") for a, b in ((0, 1), (1, 0))]
    assert [(m.index, m.other) for m in misfits([*both, *good[2:]])] == [(0, 1), (1, 0)]
    assert misfits(good) == []


@pytest.mark.parametrize("turn", range(1, 8))
def test_a_turned_mask_is_named_with_the_turn_that_undoes_it(pairs, good, turn):
    image, ids = pairs[4]
    found = misfits([*good[:4], fit_signature(image, TURN[turn](ids), "instances"), *good[5:]])
    assert named(found) == {4: "turned"}
    assert found[0].detail == f"it would fit {TURNS[UNDONE_BY[turn]]}"


def test_an_oblong_mask_can_be_flipped_but_not_exchanged(pairs):
    cut = [(image[:, :80], ids[:80]) for image, ids in pairs]
    signatures = signed(cut)
    assert {len(s.turned) for s in signatures} == {4}
    signatures[5] = fit_signature(cut[5][0], np.flipud(cut[5][1]), "instances")
    [found] = misfits(signatures)
    assert (found.index, found.detail) == (5, "it would fit flipped top to bottom")


@pytest.mark.parametrize(("fault", "kind"), [(lambda m: moved(m, 7, -5), "shifted"), (np.transpose, "turned")])
def test_a_fault_of_all_is_a_fault(pairs, fault, kind):
    found = named(misfits(signed([(image, fault(ids)) for image, ids in pairs])))
    assert set(found.values()) == {kind}
    assert len(found) >= 9


def test_swapped_polarity_is_named(pairs):
    masks = [(image, (ids > 0).astype(np.uint8)) for image, ids in pairs]
    assert misfits(signed(masks, "classes")) == []
    masks[6] = masks[6][0], 1 - masks[6][1]
    assert named(misfits(signed(masks, "classes"))) == {6: "inverted"}


def test_polarity_of_instances_and_of_many_classes_is_not_judged(pairs, good):
    assert {s.signs for s in good} == {None}
    assert fit_signature(pairs[0][0], np.minimum(pairs[0][1], 2), "classes").signs is None


def test_an_image_that_is_annotated_in_part_is_named_with_a_place():
    """8 of 30 discs; the place is one of the others."""
    many = [discs(seed, count=30, side=192) for seed in range(9)]
    image, ids = many[7]
    many[7] = image, np.where(ids > 8, 0, ids)
    found = misfits(signed(many))
    assert named(found) == {7: "incomplete"}
    y, x = re.findall(r"[yx] (\d+)", found[0].detail)
    assert (ids[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 4) : int(x) + 5] > 8).any()


def test_one_missing_object_is_not_claimed(pairs, good):
    image, ids = pairs[7]
    assert misfits([*good[:7], fit_signature(image, np.where(ids == 3, 0, ids), "instances"), *good[8:]]) == []


def test_several_faults_are_told_apart(pairs, good):
    changed = dict(enumerate(good))
    changed[1] = fit_signature(pairs[1][0], moved(pairs[1][1], 9, 6), "instances")
    changed[2] = fit_signature(pairs[2][0], pairs[5][1], "instances")
    changed[5] = fit_signature(pairs[5][0], pairs[2][1], "instances")
    assert named(misfits(list(changed.values()))) == {1: "shifted", 2: "swapped", 5: "swapped"}


def test_images_of_both_polarities_in_one_set():
    mixed = [discs(seed, contrast=60 if seed % 2 else -60) for seed in range(10)]
    assert misfits(signed(mixed)) == []
    mixed[2], mixed[7] = (mixed[2][0], moved(mixed[2][1], 8, 3)), (mixed[7][0], mixed[7][1].T)
    assert named(misfits(signed(mixed))) == {2: "shifted", 7: "turned"}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), blank=st.booleans())
def test_nothing_is_said_of_masks_that_follow_no_edges(seed, n, blank):
    """Masks drawn for other images, or images of noise."""
    rng = np.random.default_rng(seed)
    unrelated = [(rng.normal(size=(1, SIDE, SIDE)) if blank else discs(seed + i)[0], discs(seed + 1000 + i)[1]) for i in range(n)]
    assert misfits(signed(unrelated)) == []


@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 10), seed=st.integers(0, 10**6), noise=st.floats(4, 40))
def test_good_pairs_are_not_named_however_few(n, seed, noise):
    rng = np.random.default_rng(seed)
    some = [discs(seed + i, count=int(rng.integers(3, 25))) for i in range(n)]
    assert misfits(signed([(image + rng.normal(0, noise, image.shape), ids) for image, ids in some])) == []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), gain=st.floats(1e-3, 1e4), offset=st.floats(-1e4, 1e4), base=st.integers(-5, 5))
def test_units_and_ids_do_not_matter(seed, gain, offset, base):
    """Intensities by any factor and offset that float32 can tell apart; ids by any relabelling, background the lowest."""
    image, ids = discs(seed)
    one = fit_signature(image, ids, "instances")
    other = fit_signature(image * gain + offset * gain, np.where(ids > 0, (ids * 7) % 97 + 1, 0) + base, "instances")
    assert other.turned == pytest.approx(one.turned, rel=0.05, abs=0.3)
    assert other.move == pytest.approx(one.move, abs=0.2)
    assert other.objects == one.objects


def test_the_channel_that_the_mask_follows_may_be_any():
    """A weak channel beside one of noise a thousand times as large."""
    rng = np.random.default_rng(0)
    stained = [(np.concatenate([rng.normal(0, 1e5, image.shape), image]), ids) for image, ids in map(discs, range(8))]
    assert misfits(signed(stained)) == []
    stained[3] = stained[3][0], moved(stained[3][1], -10, 4)
    assert named(misfits(signed(stained))) == {3: "shifted"}


def test_the_middle_labelled_slice_of_a_volume_is_looked_at():
    image, ids = discs(1)
    volume = np.random.default_rng(0).normal(100, 12, (1, 7, SIDE, SIDE))
    labels = np.zeros((7, SIDE, SIDE), np.int32)
    volume[:, 4], labels[3:6] = image, ids
    flat, deep = fit_signature(image, ids, "instances"), fit_signature(volume, labels, "instances")
    assert deep.size == (SIDE, SIDE)
    assert deep.turned == pytest.approx(flat.turned)


NOTHING = {
    "empty mask": (np.arange(1600.0).reshape(1, 40, 40), np.zeros((40, 40), int)),
    "full mask": (np.arange(1600.0).reshape(1, 40, 40), np.ones((40, 40), int)),
    "constant image": (np.full((1, 40, 40), 7, np.uint8), np.eye(40, dtype=int)),
    "black image": (np.zeros((3, 40, 40), np.uint8), np.eye(40, dtype=int)),
    "not a number": (np.full((1, 40, 40), np.nan), np.eye(40, dtype=int)),
    "infinite": (np.full((1, 40, 40), np.inf, np.float32), np.eye(40, dtype=int)),
    "beyond float32": (np.full((1, 40, 40), 1e300), np.eye(40, dtype=int)),
    "one pixel": (np.zeros((1, 1, 1)), np.zeros((1, 1), int)),
    "no pixel": (np.zeros((1, 0, 0)), np.zeros((0, 0), int)),
    "no slice": (np.zeros((1, 0, 40, 40)), np.zeros((0, 40, 40), int)),
    "small": (np.random.default_rng(0).normal(size=(1, 40, SMALLEST_SIDE - 1)), np.eye(40, SMALLEST_SIDE - 1, dtype=int)),
    "ribbon": (np.random.default_rng(0).normal(size=(1, 40, 2000)), np.eye(40, 2000, dtype=int)),
    "empty volume": (np.zeros((1, 4, 40, 40)), np.zeros((4, 40, 40), int)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_where_nothing_can_be_compared_there_is_no_signature(name):
    assert fit_signature(*NOTHING[name], "instances") is None


def test_indices_count_the_pairs_without_signature_too(pairs, good):
    shifted = fit_signature(pairs[9][0], moved(pairs[9][1], 8, 8), "instances")
    assert named(misfits([None, *good[:5], None, shifted, None])) == {7: "shifted"}
    assert misfits([None, None]) == misfits([]) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float16, np.float32, np.float64, np.int64])
def test_any_dtype(dtype):
    image, ids = discs(0)
    assert fit_signature(image.astype(dtype), ids, "instances").turned == pytest.approx(
        fit_signature(image, ids, "instances").turned, rel=1e-3)
    assert fit_signature(image > 130, ids > 0, "classes").own > 10


def test_pixels_that_are_no_number_are_passed_over():
    image, ids = discs(0)
    holed = image.astype(np.float32)
    holed[0, 10:14, 10:14], holed[0, 50, 50] = np.nan, np.inf
    assert fit_signature(holed, ids, "instances").own == pytest.approx(fit_signature(image, ids, "instances").own, rel=0.15)


def test_a_signature_is_small_whatever_the_image():
    image, ids = discs(0, side=600)
    assert fit_signature(image, ids, "instances").maps.nbytes == 4 * 2 * KEPT_SIDE**2 < 20_000


@pytest.mark.parametrize("shapes", [((1, 40, 40), (40, 41)), ((40, 40), (40, 40)), ((1, 40), (40,))])
def test_other_sizes_are_refused(shapes):
    with pytest.raises(SizeError, match=r"are not \(C, \*S\) and \(\*S\)"):
        fit_signature(np.zeros(shapes[0]), np.zeros(shapes[1], int), "instances")


def read(path: Path) -> np.ndarray:
    """(C, *S), by the libraries alone."""
    import tifffile
    from PIL import Image

    if path.suffix == ".tif":
        return tifffile.imread(path)[None]
    array = np.asarray(Image.open(path))
    return array[None] if array.ndim == 2 else np.moveaxis(array[..., :3], -1, 0)


def folder(images: Path, labels: Path, step: int = 1) -> list[Pair]:
    """Pairs of equal stems; expert averages count from half on."""
    by_stem = {path.stem: path for path in labels.iterdir()}
    return [(read(path), read(by_stem[path.stem])[0]) for path in sorted(images.iterdir())[::step]]


@pytest.mark.data
def test_membranes(data_root):
    """ISBI 2012: thin and dark, so that an inverted mask has the same outlines."""
    root = data_root / "isbi2012" / "train"
    pairs = folder(root / "images", root / "masks")
    good = signed(pairs, "classes")
    assert misfits(good) == []
    faulty = {3: moved(pairs[3][1], -5, 3), 10: pairs[11][1], 11: pairs[10][1], 20: np.rot90(pairs[20][1]), 25: 255 - pairs[25][1]}
    found = misfits([fit_signature(pairs[i][0], faulty[i], "classes") if i in faulty else s for i, s in enumerate(good)])
    assert named(found) == {3: "shifted", 10: "swapped", 11: "swapped", 20: "turned", 25: "inverted"}
    assert np.abs(np.subtract(shift_of(found[0]), (5, -3))).max() <= 1
    assert "90° clockwise" in found[3].detail


@pytest.mark.data
def test_nuclei_of_many_kinds(data_root):
    """DSB 2018: fluorescence and stained tissue, bright and dark, in nine sizes."""
    root = data_root / "dsb2018"
    pairs = folder(root / "images", root / "labels", step=6)
    good = signed(pairs)
    assert misfits(good) == []
    same = [i for i, (_, ids) in enumerate(pairs) if ids.shape == (256, 256)][:4]
    shift, turn, one, two = same
    faulty = {shift: moved(pairs[shift][1], 9, 12), turn: np.fliplr(pairs[turn][1]), one: pairs[two][1], two: pairs[one][1]}
    found = misfits([fit_signature(pairs[i][0], faulty[i], "instances") if i in faulty else s for i, s in enumerate(good)])
    assert named(found) == {shift: "shifted", turn: "turned", one: "swapped", two: "swapped"}


@pytest.mark.data
def test_the_frame_with_three_of_eighteen_cells(data_root):
    """CTC DIC-HeLa: cells without contrast of intensity; frame 067 was annotated in part."""
    root = data_root / "ctc" / "DIC-C2DH-HeLa"
    frames = sorted((root / "01_GT" / "SEG").glob("man_seg*.tif"))
    numbers = [path.stem.removeprefix("man_seg") for path in frames]
    pairs = [(read(root / "01" / f"t{number}.tif"), read(path)[0]) for number, path in zip(numbers, frames, strict=True)]
    assert {numbers[i]: kind for i, kind in named(misfits(signed(pairs))).items()} == {"067": "incomplete"}
    pairs[2] = pairs[2][0], moved(pairs[2][1], 6, 0)
    assert {numbers[i]: kind for i, kind in named(misfits(signed(pairs))).items()} == {numbers[2]: "shifted", "067": "incomplete"}


@pytest.mark.data
@pytest.mark.parametrize("structure", ["disc", "cup"])
def test_nothing_is_said_of_masks_that_experts_guessed(data_root, structure):
    """Drishti: the cup's rim is no edge, the disc's is crossed by vessels."""
    root = data_root / "drishti_gs" / "train"
    pairs = [(image, (mask >= 128).astype(np.uint8)) for image, mask in folder(root / "images", root / structure)]
    assert misfits(signed(pairs, "classes")) == []


@pytest.mark.data
def test_nothing_is_said_of_small_volumes(data_root):
    """Hippocampus: the middle slice is 35 × 50 pixels, and borders are drawn by anatomy."""
    import nibabel

    paths = sorted((data_root / "hippocampus" / "images").iterdir())[::3]
    signatures = [fit_signature(*(np.asarray(nibabel.load(p).dataobj).T[None] for p in (path,)),  # type: ignore[attr-defined]
                                np.asarray(nibabel.load(path.parent.parent / "labels" / path.name).dataobj).T, "classes")
                  for path in paths]
    assert misfits(signatures) == []
