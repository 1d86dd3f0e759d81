"""Training patches: sample n depends on (seed, n) alone, and image, labels and ignore stay on top of each other."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data.patches import PatchGeometry, draw_sample, make_batch
from biomask.recipe import AugmentationSettings

AUGMENTED, PLAIN = AugmentationSettings(), AugmentationSettings(flip=(), rotate90=False)


class Items:
    """The part of a data set that patches use: images that carry their own coordinates, as labels do."""

    def __init__(self, *sizes, ignore=None):
        self.sizes, self.ignore = sizes, ignore
        self.facts = SimpleNamespace(sizes=sizes)

    def item(self, i):
        code = self.code(i)
        ignore = None if self.ignore is None or i not in self.ignore else code % 7 == 3
        return code[None].astype(np.float32), (code % 251).astype(np.uint8), ignore

    def code(self, i):
        """A number of its own for every pixel of every image."""
        return np.arange(np.prod(self.sizes[i])).reshape(self.sizes[i]) + 10_000 * i


def batch(items, seed, samples, geometry, augmentation=AUGMENTED):
    return make_batch(items, seed, samples, geometry, augmentation, torch.device("cpu"))


def whole(side, dims=2):
    return PatchGeometry((side,) * dims, (0,) * dims)


class TestDrawSample:
    @given(st.integers(0, 2**62), st.integers(0, 2**62), st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1,
                                                                 max_size=5), st.tuples(st.integers(1, 20), st.integers(1, 20)))
    def test_a_pure_function_inside_the_image(self, seed, n, sizes, target):
        geometry = PatchGeometry(target, (0, 0))
        draw = draw_sample(seed, n, sizes, geometry, AUGMENTED)
        assert draw == draw_sample(seed, n, sizes, geometry, AUGMENTED)
        for start, size, side in zip(draw.start, sizes[draw.image], target, strict=True):
            if size >= side:
                assert 0 <= start <= size - side
            else:
                assert start <= 0
                assert start + side >= size
        assert target[0] == target[1] or draw.turns == 0

    def test_seeds_and_numbers_give_different_samples(self):
        draws = {draw_sample(seed, n, [(100, 100)], whole(8), AUGMENTED) for seed in range(20) for n in range(20)}
        assert len(draws) > 390

    def test_images_are_drawn_by_their_pixels(self):
        sizes = [(10, 10), (30, 10)]
        drawn = [draw_sample(0, n, sizes, whole(4), PLAIN).image for n in range(2000)]
        assert 0.72 < np.mean(drawn) < 0.78

    def test_every_place_is_reached(self):
        starts = {draw_sample(0, n, [(6, 7)], whole(4), PLAIN).start for n in range(500)}
        assert starts == {(y, x) for y in range(3) for x in range(4)}

    def test_all_eight_symmetries_occur_about_equally(self):
        square = np.arange(9).reshape(1, 3, 3)
        seen = []
        for n in range(800):
            draw = draw_sample(1, n, [(3, 3)], whole(3), AUGMENTED)
            turned = np.rot90(np.flip(square[0], draw.flips), draw.turns)
            seen.append(turned.tobytes())
        counts = {s: seen.count(s) for s in set(seen)}
        assert len(counts) == 8
        assert min(counts.values()) > 60

    @pytest.mark.parametrize("axis", ["z", "y", "x"])
    def test_an_axis_that_carries_meaning_is_never_mirrored(self, axis):
        others = tuple(a for a in "zyx" if a != axis)
        augmentation = AugmentationSettings(flip=others, rotate90=False)
        flips = {f for n in range(200) for f in draw_sample(0, n, [(8, 8, 8)], whole(4, 3), augmentation).flips}
        assert flips == {"zyx".index(a) - 3 for a in others}

    def test_no_turns_where_the_patch_is_no_square(self):
        assert {draw_sample(0, n, [(20, 20)], PatchGeometry((4, 6), (0, 0)), AUGMENTED).turns for n in range(50)} == {0}
        assert {draw_sample(0, n, [(20, 20)], PatchGeometry((4, 4), (2, 3)), AUGMENTED).turns for n in range(50)} == {0}


class TestMakeBatch:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
           st.sampled_from([whole(4), whole(9), whole(30), PatchGeometry((6, 4), (0, 0)), PatchGeometry((6, 6), (3, 3)),
                            PatchGeometry((4, 4), (20, 20))]))
    def test_image_labels_and_ignore_stay_aligned(self, seed, samples, geometry):
        made = batch(Items((12, 17), (20, 9), ignore={0}), seed, samples, geometry)
        margin = geometry.margin
        middle = made.images[:, 0, margin[0]: made.images.shape[2] - margin[0], margin[1]: made.images.shape[3] - margin[1]]
        codes = middle.long()
        assert made.images.dtype == torch.float32
        assert made.targets.dtype == torch.int64
        assert made.targets.shape == (len(samples), *geometry.target)
        assert torch.equal(codes % 251, made.targets)
        if made.ignore is not None:
            first = codes < 10_000
            assert torch.equal(made.ignore, first & (codes % 7 == 3))

    def test_volumes_stay_aligned(self):
        made = batch(Items((5, 8, 9)), 3, range(20), PatchGeometry((4, 6, 6), (0, 0, 0)))
        assert torch.equal(made.images[:, 0].long() % 251, made.targets)
        assert len({tuple(t.flatten().tolist()) for t in made.targets}) > 10

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 1000), st.lists(st.integers(0, 1000), min_size=2, max_size=5))
    def test_company_does_not_matter(self, seed, samples):
        items, geometry = Items((12, 17), (9, 20), ignore={1}), PatchGeometry((6, 6), (2, 2))
        together = batch(items, seed, samples, geometry)
        for i, n in enumerate(samples):
            alone = batch(items, seed, [n], geometry)
            assert torch.equal(together.images[i], alone.images[0])
            assert torch.equal(together.targets[i], alone.targets[0])
            known = torch.zeros_like(alone.targets[0], dtype=torch.bool)
            there = known if together.ignore is None else together.ignore[i]
            assert torch.equal(there, known if alone.ignore is None else alone.ignore[0])

    @pytest.mark.parametrize(("size", "target", "margin"), [((7, 9), (7, 9), (5, 5)), ((5, 6), (11, 14), (0, 0)),
                                                            ((4, 3), (10, 10), (6, 6)), ((2, 2), (9, 9), (3, 3)),
                                                            ((1, 6), (4, 4), (2, 2)), ((1, 1), (3, 3), (1, 1))])
    def test_beyond_the_border_it_is_numpys_reflection(self, size, target, margin):
        items, geometry = Items(size), PatchGeometry(target, margin)
        for n in range(10):
            draw = draw_sample(0, n, [size], geometry, PLAIN)
            far = 40
            padded = np.pad(items.code(0), far, mode="reflect")
            window = tuple(slice(far + s - m, far + s + t + m) for s, t, m in zip(draw.start, target, margin, strict=True))
            inner = tuple(slice(far + s, far + s + t) for s, t in zip(draw.start, target, strict=True))
            made = batch(items, 0, [n], geometry, PLAIN)
            assert np.array_equal(made.images[0, 0].numpy(), padded[window])
            assert np.array_equal(made.targets[0].numpy(), padded[inner] % 251)

    def test_without_augmentation_nothing_is_mirrored(self):
        made = batch(Items((12, 17)), 0, range(20), whole(5), PLAIN)
        steps = made.images[:, 0].diff(dim=2)
        assert (steps == 1).all()

    def test_no_ignore_no_tensor(self):
        assert batch(Items((12, 17)), 0, [0], whole(5)).ignore is None

    def test_all_channels_turn_together(self):
        class Two(Items):
            def item(self, i):
                image, labels, ignore = super().item(i)
                return np.concatenate([image, 3 * image]), labels, ignore

        made = batch(Two((12, 12)), 0, range(16), whole(6))
        assert torch.equal(3 * made.images[:, 0], made.images[:, 1])
