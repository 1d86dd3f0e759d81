"""A plan holds what it promises for any data, machine and budget, and moves where data and budget push it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data.fingerprint import Fingerprint
from biomask.data.pieces import Objects
from biomask.errors import UsageError
from biomask.models import MODELS
from biomask.prediction.overlap_tile import geometry_of
from biomask.training.choices import levels_for, receptive_field
from biomask.training.plan import Budgeted, Plan, Wishes, make_plan, warnings_of
from biomask.training.speed import Machine

CPU = Machine("cpu", "CPU with 2 threads", 2, 16 * 10**9, 8 * 10**9, True)
GPU = Machine("cuda", "GPU", 16, 80 * 10**9, 70 * 10**9, True)


def fingerprint(size: tuple[int, ...] = (512, 512), extent: float = 30.0, **changes: Any) -> Fingerprint:
    dims = len(size)
    objects = Objects(100, (5, 10, 20), (extent / 2, extent * 0.7, extent), (extent * 0.7,) * dims, (extent,) * dims,
                      int(extent) + 5, extent, 0.3) if extent else Objects(0, (0, 0, 0), (0.0,) * 3, (0.0,) * dims, (0.0,) * dims,
                                                                           0, 0.0, 0.0)
    usual = Fingerprint("instances", 20, 20, size, size, size, 1, None, (1.0,) * dims, "nothing", 0.0, ("background", "object"),
                        (0.8, 0.2), (1.0, 1.0), objects)
    return replace(usual, **changes)


def network_of(plan: Plan, f: Fingerprint, outputs: int = 4) -> Any:
    with torch.device("meta"):
        return MODELS["unet"](f.channels, outputs, spatial_dims=f.dims, **plan.options)


fingerprints = st.builds(
    lambda size, extent, coarse, dark, share: fingerprint(
        size, min(extent, 1.0 * max(size)), anisotropy=(coarse, 1.0, 1.0) if len(size) == 3 else (1.0, 1.0), dark=dark,
        shares=(1 - share, share)),
    st.one_of(st.tuples(*[st.integers(5, 900)] * 2), st.tuples(st.integers(1, 90), *[st.integers(8, 200)] * 2)),
    st.sampled_from([0.0, 3.0, 25.0, 90.0, 300.0]), st.sampled_from([1.0, 1.9, 2.5, 6.0]), st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 0.0005, 0.03, 0.4]))
budgets = st.sampled_from([Budgeted(), Budgeted(steps=50), Budgeted(minutes=0.5), Budgeted(minutes=10), Budgeted(minutes=300)])


machines = st.sampled_from([CPU, GPU, replace(CPU, device="mps"), replace(GPU, memory=4 * 10**9), replace(CPU, processes=3)])


@settings(max_examples=25, deadline=None)
@given(fingerprints, machines, budgets)
def test_any_plan_can_be_trained(f: Fingerprint, machine: Machine, budget: Budgeted) -> None:
    plan = make_plan(f, machine, budget)
    network = network_of(plan, f)
    geometry = geometry_of(network)
    assert all(g.legal_size(p) == p for p, g in zip(plan.patch, geometry, strict=True))
    assert all(p <= max(n, g.stride) for p, n, g in zip(plan.patch, f.median, geometry, strict=True))
    assert all(g.stride == 1 or p // g.stride >= 4 or min(f.median) < 8 for p, g in zip(plan.patch, geometry, strict=True))
    assert plan.batch >= 2
    assert plan.batch % machine.processes == 0
    assert (plan.steps is None) != (plan.minutes is None)
    assert plan.until_flat == budget.open
    assert 0 <= plan.oversample <= 1
    assert plan.sentences
    assert all(s.strip() == s and s for s in plan.sentences)
    assert plan == make_plan(f, replace(machine, free=1, name=machine.name), budget)


def test_a_patch_holds_the_objects() -> None:
    for extent in (20, 100, 200):
        plan = make_plan(fingerprint((1000, 1000), extent), CPU)
        assert min(plan.patch) >= min(1.6 * extent, 512)
    # Small objects take small patches, so that a step sees more images; pieces of classes do not.
    assert make_plan(fingerprint((1000, 1000), 20), CPU).patch == make_plan(fingerprint((1000, 1000), 20), GPU).patch == (128, 128)
    assert 128 < make_plan(fingerprint((1000, 1000), 60), CPU).patch[0] < 256
    assert make_plan(fingerprint((1000, 1000), 20, kind="classes"), CPU).patch == (256, 256)
    assert make_plan(fingerprint((1000, 1000), 20, kind="classes"), GPU).patch == (512, 512)
    assert max(make_plan(fingerprint((5000, 5000), 2000), CPU).patch) <= 512


def test_a_small_image_bounds_the_patch_and_fills_the_batch() -> None:
    plan = make_plan(fingerprint((70, 90)), CPU)
    assert plan.patch <= (70, 90)
    assert plan.batch == 16


def test_nearly_square_patches_become_square_unless_pixels_are_not() -> None:
    assert make_plan(fingerprint((440, 512), kind="classes"), GPU).patch == (440, 440)
    long = fingerprint((440, 512), kind="classes", spacing=(2.0, 1.0), anisotropy=(2.0, 1.0), anisotropy_source="spacing")
    plan = make_plan(long, GPU)
    assert plan.patch[0] != plan.patch[1]
    assert not plan.rotate90
    assert plan.flip == ("y", "x")


def test_large_objects_ask_for_a_deeper_network() -> None:
    depths = [make_plan(fingerprint((1000, 1000), e), CPU).depth for e in (15, 60, 120)]
    assert depths == [3, 4, 5]
    for extent in (15, 60, 120):
        f = fingerprint((1000, 1000), extent)
        assert min(receptive_field(network_of(make_plan(f, CPU), f))) >= 2.5 * extent
    assert make_plan(fingerprint((60, 60), 50), CPU).depth == 3  # nothing is left at the bottom of a deeper one


def test_volumes_too_large_for_one_tile_keep_a_shallow_network() -> None:
    assert make_plan(fingerprint((100, 100, 100), 28), CPU).depth == 3
    assert make_plan(fingerprint((400, 1000, 1000), 28), CPU).depth == 2


@settings(max_examples=200)
@given(st.lists(st.integers(1, 200), min_size=3, max_size=3), st.floats(1, 12), st.integers(1, 5))
def test_levels_pool_thick_planes_late(patch: list[int], coarse: float, depth: int) -> None:
    scales, kernels = levels_for(patch, (coarse, 1.0, 1.0), depth)
    assert len(kernels) == len(scales) + 1 <= depth + 1
    pixel, sides = [coarse, 1.0, 1.0], list(patch)
    for scale, kernel in zip([*scales, None], kernels, strict=True):
        assert kernel == tuple(1 if p > 2 * min(pixel) or n < 3 else 3 for p, n in zip(pixel, patch, strict=True))
        able = [n >= 8 for n in sides]
        if scale is None:
            assert len(scales) == depth or not any(able)
            continue
        finest = min(p for p, a in zip(pixel, able, strict=True) if a)
        assert [s == 2 for s in scale] == [a and p <= 2 * finest for p, a in zip(pixel, able, strict=True)]
        sides, pixel = [n // s for n, s in zip(sides, scale, strict=True)], [p * s for p, s in zip(pixel, scale, strict=True)]
        assert all(s == 1 or n >= 4 for n, s in zip(sides, scale, strict=True))


def test_thick_planes() -> None:
    plan = make_plan(fingerprint((40, 300, 300), anisotropy=(5.0, 1.0, 1.0), anisotropy_source="spacing"), CPU)
    assert plan.options["scales"][0] == [1, 2, 2]
    assert plan.options["kernels"][0] == [1, 3, 3]
    assert plan.patch[0] < plan.patch[1] == plan.patch[2]
    even = make_plan(fingerprint((100, 100, 100)), CPU)
    assert {"scales", "kernels"}.isdisjoint(even.options)


def test_more_time_never_gives_a_narrower_network_and_enough_steps_fit() -> None:
    data = fingerprint(kind="classes")
    for machine, enough in ((CPU, 4000), (GPU, 3000)):
        plans = [make_plan(data, machine, Budgeted(minutes=m)) for m in (0.2, 1, 1.5, 2, 3, 5, 7, 10, 20, 30, 100, 1000)]
        widths = [p.width or 0 for p in plans]
        assert widths == sorted(widths)
        assert len(set(widths)) == 3
        assert all(p.estimate.steps >= enough for p in plans if p.width != min(widths))


def test_a_budget_in_steps_does_not_depend_on_speed() -> None:
    for machine in (CPU, GPU):
        plan = make_plan(fingerprint(), machine, Budgeted(steps=400))
        slow = make_plan(fingerprint(), replace(machine, threads=1, free=0), Budgeted(steps=400))
        assert replace(plan, estimate=slow.estimate, sentences=()) == replace(slow, sentences=())


def test_little_memory_gives_smaller_networks_and_batches() -> None:
    small, large = (make_plan(fingerprint((900, 900), kind="classes"), replace(GPU, memory=m * 10**9), Budgeted(steps=9))
                    for m in (2, 80))
    assert (small.width or 0) < (large.width or 0)
    assert small.estimate.memory_bytes <= 0.7 * 2e9
    assert not warnings_of(large, GPU)
    (warning,) = warnings_of(large, replace(GPU, free=10**6))
    assert "1 MB are free" in warning


def test_what_is_settled_stays() -> None:
    wishes = Wishes("none", (100, 100), 3, 12, 2, oversample=0.9, class_weights=(1.0, 2.0), flip=("x",), rotate90=False,
                    options={"norm": None, "width": None})
    plan = make_plan(fingerprint(shares=(0.9999, 0.0001)), CPU, Budgeted(steps=5), wishes)
    assert (plan.method, plan.patch, plan.batch, plan.oversample) == ("none", (100, 100), 3, 0.9)
    assert plan.options == {"norm": None, "width": 12, "depth": 2}
    assert (plan.class_weights, plan.flip, plan.rotate90) == ((1.0, 2.0), ("x",), False)
    assert make_plan(fingerprint(), CPU, None, Wishes(patch=(97, 97), depth=4)).patch == (112, 112)
    scales = ((1, 2, 2), (1, 2, 2))
    own = make_plan(fingerprint((40, 90, 90)), CPU, None, Wishes(scales=scales))
    assert (own.options["scales"], own.depth) == (scales, 2)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_a_given_depth_stays_though_the_patch_is_small(depth: int) -> None:
    assert make_plan(fingerprint((40, 40)), CPU, None, Wishes(depth=depth)).depth == depth


def test_valid_networks_and_others() -> None:
    options = {"width": 8, "depth": 3, "padding": "valid"}
    f = fingerprint((300, 300))
    plan = make_plan(f, CPU, None, Wishes(options=options))
    assert plan.options == options
    network = network_of(plan, f)
    assert all(network.legal_size(p + 2 * m, 0) == p + 2 * m for p, m in zip(plan.patch, network.margin, strict=True))
    other = make_plan(f, CPU, None, Wishes(network="one-layer", options={"kernel": 11}))
    assert other.options == {"kernel": 11}
    assert other.width is None


@pytest.mark.parametrize(("machine", "minutes"), [(CPU, 60), (GPU, 30), (replace(CPU, device="mps"), 45)])
def test_without_a_budget_until_flat(machine: Machine, minutes: float) -> None:
    plan = make_plan(fingerprint(), machine)
    assert (plan.minutes, plan.steps, plan.until_flat) == (minutes, None, True)
    assert any(f"at the latest after {minutes} minutes" in s for s in plan.sentences)


def test_grey_values() -> None:
    assert make_plan(fingerprint(dark=0.9), CPU).method == "percentile"
    assert make_plan(fingerprint(dark=0.2), CPU).method == "zscore"


def test_rare_classes_are_sought_and_only_extremes_weigh_more() -> None:
    def plan(share: float, kind: Any = "classes") -> Plan:
        return make_plan(fingerprint((1000, 1000), kind=kind, shares=(1 - share, share)), CPU)

    assert [plan(s).oversample for s in (0.3, 0.03, 0.003)] == [0.0, 0.33, 0.5]
    assert plan(0.03).class_weights is plan(0.002).class_weights is plan(0.0001, "instances").class_weights is None
    weights = plan(0.0001).class_weights
    assert weights is not None
    assert weights[0] == 1 < weights[1] <= 5
    whole = fingerprint((256, 256), kind="classes", shares=(0.99, 0.01))
    assert make_plan(whole, CPU).oversample == 0
    assert make_plan(replace(whole, presence=(1.0, 0.1)), CPU).oversample > 0


def test_left_and_right_are_not_mirrored() -> None:
    f = fingerprint(class_names=("background", "left kidney", "right kidney"), shares=(0.8, 0.1, 0.1), presence=(1.0,) * 3)
    assert (make_plan(f, CPU).flip, make_plan(f, CPU).rotate90) == ((), False)
    assert make_plan(fingerprint((40, 90, 90)), CPU).flip == ("y", "x", "z")


def test_contradictions() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        make_plan(fingerprint(), CPU, Budgeted(5, 5.0))
    with pytest.raises(UsageError, match="3 sides for 2D"):
        make_plan(fingerprint(), CPU, None, Wishes(patch=(8, 8, 8)))


def test_planning_draws_no_random_numbers() -> None:
    state = torch.random.get_rng_state()
    make_plan(fingerprint(), CPU)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_sentences_tell_sizes_and_reasons() -> None:
    said = "\n".join(make_plan(fingerprint((512, 512), 30), CPU, Budgeted(minutes=10)).sentences)
    for part in ("20 images of 512 × 512 px", "100 objects of 21 px", "30 % of them touch another",
                 "patches of 128 × 128: 4.3 times nearly every object (up to 30 px)", "depth 3", "width", "patches a step"):
        assert part in said
