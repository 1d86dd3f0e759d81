"""Training patches: sample n depends on (seed, n) alone, and image, labels and ignore stay on top of each other."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data.dataset import Dataset
from biomask.data.draws import Draw, PatchGeometry, draw_sample
from biomask.data.looks import change_looks
from biomask.data.patches import Batch, Sampling, make_batch
from biomask.recipe import AugmentationSettings

AUGMENTED, PLAIN = AugmentationSettings(), AugmentationSettings(flip=(), rotate90=False)


class Items:
    """The part of a data set that patches use: images that carry their own coordinates, as labels do."""

    def __init__(self, *sizes, ignore=None):
        self.sizes, self.ignore = sizes, ignore
        self.facts = SimpleNamespace(sizes=sizes, kind="classes")
        self._places = {}

    places = Dataset.places

    def item(self, i):
        code = self.code(i)
        ignore = None if self.ignore is None or i not in self.ignore else code % 7 == 3
        return code[None].astype(np.float32), (code % 251).astype(np.uint8)[None], ignore

    def code(self, i):
        """A number of its own for every pixel of every image."""
        return np.arange(np.prod(self.sizes[i])).reshape(self.sizes[i]) + 10_000 * i


def batch(items, seed, samples, geometry, augmentation=AUGMENTED, **more) -> Batch:
    return make_batch(items, Sampling(seed, geometry, augmentation, **more), samples, torch.device("cpu"))


def whole(side, dims=2):
    return PatchGeometry((side,) * dims, (0,) * dims)


class TestDrawSample:
    @settings(deadline=None)
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
        draws = [draw_sample(seed, n, [(100, 100)], whole(8), AUGMENTED) for seed in range(20) for n in range(20)]
        assert len({(d.start, d.flips, d.turns) for d in draws}) > 390
        assert len({d.seed for d in draws}) == 400

    def test_images_are_drawn_by_the_root_of_their_pixels(self):
        sizes = [(10, 10), (90, 10)]
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
        assert made.labels.dtype == torch.uint8
        assert made.labels.shape == (len(samples), 1, *geometry.target)
        assert torch.equal(codes % 251, made.labels[:, 0].long())
        if made.ignore is not None:
            first = codes < 10_000
            assert torch.equal(made.ignore, first & (codes % 7 == 3))

    def test_volumes_stay_aligned(self):
        made = batch(Items((5, 8, 9)), 3, range(20), PatchGeometry((4, 6, 6), (0, 0, 0)))
        assert torch.equal(made.images[:, 0].long() % 251, made.labels[:, 0].long())
        assert len({tuple(t.flatten().tolist()) for t in made.labels}) > 10

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 1000), st.lists(st.integers(0, 1000), min_size=2, max_size=5))
    def test_company_does_not_matter(self, seed, samples):
        items, geometry = Items((12, 17), (9, 20), ignore={1}), PatchGeometry((6, 6), (2, 2))
        together = batch(items, seed, samples, geometry)
        for i, n in enumerate(samples):
            alone = batch(items, seed, [n], geometry)
            assert torch.equal(together.images[i], alone.images[0])
            assert torch.equal(together.labels[i], alone.labels[0])
            known = torch.zeros_like(alone.labels[0, 0], dtype=torch.bool)
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
            assert np.array_equal(made.labels[0, 0].numpy(), padded[inner] % 251)

    def test_without_augmentation_nothing_is_mirrored(self):
        made = batch(Items((12, 17)), 0, range(20), whole(5), PLAIN)
        steps = made.images[:, 0].diff(dim=2)
        assert (steps == 1).all()

    def test_no_ignore_no_tensor(self):
        assert batch(Items((12, 17)), 0, [0], whole(5)).ignore is None

    @pytest.mark.parametrize("augmentation", [PLAIN, AUGMENTED, AugmentationSettings(warp=0.5, intensity=1.0, blur=0.5, noise=0.5)])
    @pytest.mark.parametrize("kept", [lambda a: a, lambda a: a[..., ::-1].copy()[..., ::-1], lambda a: np.broadcast_to(a, a.shape)],
                             ids=["plain", "backwards", "read-only"])
    def test_images_in_memory_are_only_read(self, augmentation, kept, recwarn):
        class Held(Items):
            def item(self, i):
                return held[i]

        items = Items((12, 17), (20, 20), ignore={1})
        held = [tuple(a if a is None else kept(a) for a in items.item(i)) for i in range(2)]
        made, expected = (batch(i, 0, range(12), whole(9), augmentation) for i in (Held(*items.sizes), items))
        assert torch.equal(made.images, expected.images)
        assert torch.equal(made.labels, expected.labels)
        assert torch.equal(made.ignore, expected.ignore)
        for tensor in (made.images, made.labels, made.ignore):
            tensor.fill_(1)
        for i in range(2):
            assert all(a is b is None or np.array_equal(a, b) for a, b in zip(held[i], items.item(i), strict=True))
        assert not recwarn.list

    def test_a_network_may_learn_from_it(self):
        made = batch(Items((12, 17)), 0, range(3), whole(5), AugmentationSettings(warp=0.5))
        scale = torch.ones(1, requires_grad=True)
        (made.images * scale * made.labels).sum().backward()
        assert scale.grad is not None

    def test_all_channels_turn_together(self):
        class Two(Items):
            def item(self, i):
                image, labels, ignore = super().item(i)
                return np.concatenate([image, 3 * image]), labels, ignore

        made = batch(Two((12, 12)), 0, range(16), whole(6))
        assert torch.equal(3 * made.images[:, 0], made.images[:, 1])


class Steps(Items):
    """Images whose grey value is the class, in blocks, and a second label channel of ids as large as they come."""

    def item(self, i):
        y, x = np.indices(self.sizes[i][-2:]) // 6
        block = np.broadcast_to(10 * y + x, self.sizes[i])
        ignore = None if self.ignore is None or i not in self.ignore else block % 5 == 2
        return block[None].astype(np.float32), np.stack([block + 2**30, block % 4]).astype(np.int32), ignore


WARPED = AugmentationSettings(warp=1.0)


class TestWarped:
    @pytest.mark.parametrize(("size", "geometry"), [((60, 50), PatchGeometry((32, 32), (0, 0))),
                                                    ((60, 50), PatchGeometry((24, 20), (6, 4))),
                                                    ((8, 40, 40), PatchGeometry((4, 24, 24), (0, 0, 0))),
                                                    ((20, 20), PatchGeometry((32, 32), (4, 4)))])
    def test_image_labels_and_ignore_move_together(self, size, geometry):
        """Away from the blocks' edges the image's value, interpolated, is that of the label, which is the nearest one."""
        made = batch(Steps(size, ignore={0}), 3, range(12), geometry, WARPED)
        inner = tuple(slice(m, m + t) for m, t in zip(geometry.margin, geometry.target, strict=True))
        grey, ids = made.images[(slice(None), 0, *inner)], made.labels[:, 0] - 2**30
        assert made.labels.dtype == torch.int32
        assert (made.labels[:, 1] == ids % 4).all()
        flat = (grey - grey.round()).abs() < 1e-3
        assert flat.float().mean() > 0.4
        assert ((grey.round().long() == ids) | ~flat).float().mean() > 0.99
        assert made.ignore is not None
        assert torch.equal(made.ignore, ids % 5 == 2)

    def test_it_is_no_symmetry_of_the_square(self):
        straight, bent = (batch(Items((64, 64)), 0, range(8), whole(32), a) for a in (PLAIN, WARPED))
        assert (straight.images == straight.images.round()).all()
        assert (bent.images != bent.images.round()).float().mean() > 0.5

    @settings(deadline=None, max_examples=10)
    @given(st.integers(0, 1000), st.lists(st.integers(0, 1000), min_size=2, max_size=4))
    def test_company_does_not_matter(self, seed, samples):
        looks = AugmentationSettings(warp=0.7, intensity=0.5, blur=0.5, noise=0.5)
        items, geometry = Steps((40, 50), (50, 40)), PatchGeometry((16, 16), (2, 2))
        together = batch(items, seed, samples, geometry, looks, oversample=0.5)
        for i, n in enumerate(samples):
            alone = batch(items, seed, [n], geometry, looks, oversample=0.5)
            assert torch.equal(together.images[i], alone.images[0])
            assert torch.equal(together.labels[i], alone.labels[0])

    def test_without_rotation_scale_and_deformation_it_is_the_patch_itself(self):
        """Only the small stretch of each axis is left."""
        still = AugmentationSettings(warp=1.0, rotate=0, scale=0, elastic=0, flip=(), rotate90=False)
        items = Items((64, 64))
        bent, straight = batch(items, 0, range(10), whole(21), still), batch(items, 0, range(10), whole(21), PLAIN)
        assert torch.allclose(bent.images[:, 0, 10, 10], straight.images[:, 0, 10, 10], atol=1e-2)
        assert ((bent.images - straight.images).abs().amax((1, 2, 3)) <= 64 * (0.05 * 10 + 1)).all()

    @pytest.mark.parametrize("flip", [("y",), ("y", "x")])
    def test_an_axis_that_carries_meaning_is_not_mirrored(self, flip):
        """Grey values are the place along x: they grow along x in all patches, unless x may be mirrored."""
        class Along(Items):
            def item(self, i):
                _, labels, ignore = super().item(i)
                return np.broadcast_to(np.arange(64, dtype=np.float32), (1, 64, 64)), labels, ignore

        gentle = AugmentationSettings(warp=1.0, rotate=10, flip=flip, rotate90=False, elastic=2)
        x = batch(Along((64, 64)), 0, range(30), whole(16), gentle).images[:, 0]
        growing = (x[..., 12] > x[..., 3]).flatten(1).all(dim=1)
        assert growing.all() if flip == ("y",) else 5 < int(growing.sum()) < 25


class Rare(Items):
    """One pixel of class 3 in an image of class 0, and four of class 1 of which two are unknown."""

    spot, others = (37, 11), ((5, 5), (5, 50), (50, 5), (50, 50))

    def item(self, i):
        labels = np.zeros((1, *self.sizes[i]), np.uint8)
        ignore = np.zeros(self.sizes[i], bool)
        labels[(0, *self.spot)] = 3
        for n, place in enumerate(self.others):
            labels[(0, *place)] = 1
            ignore[place] = n % 2 == 1
        return labels.astype(np.float32), labels, ignore


class TestOversampled:
    def test_each_patch_has_a_known_pixel_of_an_object(self):
        made = batch(Rare((64, 64)), 0, range(60), whole(8), AUGMENTED, oversample=1.0)
        seen = (made.labels[:, 0] > 0) & ~made.ignore
        assert seen.flatten(1).any(dim=1).all()
        rare = (made.labels == 3).flatten(1).any(dim=1)
        assert 18 <= int(rare.sum()) <= 42  # a rare class as often as a common one

    def test_the_object_lies_anywhere_in_the_patch(self):
        made = batch(Rare((64, 64)), 0, range(400), whole(8), PLAIN, oversample=1.0)
        places = {tuple(p.tolist()) for patch in made.labels[:, 0] for p in (patch == 3).nonzero()}
        assert len(places) > 40

    def test_a_share_of_them(self):
        made = batch(Rare((64, 64)), 0, range(400), whole(8), PLAIN, oversample=0.5)
        share = (made.labels > 0).flatten(1).any(dim=1).float().mean()
        assert 0.45 < share < 0.62

    def test_without_any_object_places_are_as_drawn(self):
        class Empty(Items):
            def item(self, i):
                image, labels, ignore = super().item(i)
                return image, np.zeros_like(labels), ignore

        one, two = (batch(Empty((40, 40)), 0, range(20), whole(8), PLAIN, oversample=share) for share in (1.0, 0.0))
        assert torch.equal(one.images, two.images)

    def test_images_smaller_than_the_patch(self):
        made = batch(Rare((64, 64)), 0, range(10), PatchGeometry((80, 80), (0, 0)), PLAIN, oversample=1.0)
        assert (made.labels == 3).flatten(1).any(dim=1).all()


class TestLooks:
    def draws(self, count, **chances) -> list[Draw]:
        return [draw_sample(0, n, [(64, 64)], whole(32), AugmentationSettings(**chances)) for n in range(count)]

    @pytest.mark.parametrize(("chances", "changed"), [({}, 0), ({"noise": 1.0}, 20), ({"blur": 1.0}, 20), ({"intensity": 1.0}, 20)])
    def test_what_was_drawn_is_done(self, chances, changed):
        images = torch.randn((20, 1, 32, 32), generator=torch.Generator().manual_seed(0))
        found = change_looks(images, self.draws(20, **chances))
        assert found.shape == images.shape
        assert torch.isfinite(found).all()
        assert int((found != images).flatten(1).any(dim=1).sum()) == changed

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_stains_are_those_of_colour_images(self, channels):
        images = torch.rand((20, channels, 32, 32), generator=torch.Generator().manual_seed(0)) - 0.5
        found = change_looks(images, self.draws(20, stain=1.0))
        assert torch.isfinite(found).all()
        assert bool((found != images).any()) == (channels == 3)

    def test_chances_are_kept(self):
        looks = [d.look for d in self.draws(1000, intensity=0.3, blur=0.1, noise=0.2, stain=0.5)]
        shares = [np.mean([getattr(look, name) not in (1, 0, None) for look in looks]) for name in
                  ("gain", "gamma", "blur", "noise", "stain")]
        assert shares == pytest.approx([0.3, 0.3, 0.1, 0.2, 0.5], abs=0.05)

    def test_flat_images_stay_finite(self):
        draws = self.draws(20, intensity=1.0, blur=1.0, noise=0.0, stain=1.0)
        for channels in (1, 3):
            assert torch.isfinite(change_looks(torch.zeros(20, channels, 8, 8), draws)).all()
