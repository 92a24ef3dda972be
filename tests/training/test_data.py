"""Footage: sources, cache, shards, and sequences that do not depend on who draws them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.errors import InputError, OutputError
from s2vc.training.augment import augmented
from s2vc.training.feed import Feed
from s2vc.training.footage import Clip, Library, find_sources, load_library, passes, prepare
from s2vc.training.pack import fault, pack, scenes
from s2vc.training.recipe import Data
from s2vc.training.sampler import Sampler
from s2vc.training.sequences import Footage, still_sequence
from s2vc.training.shards import open_shard
from s2vc.training.streams import Purpose, StepStreams, stream

EVERYTHING = Data(
    clips=["clips"], sequences=["vimeo"], images=["images"], scales=[1.0, 0.6], steps=[1, 2], in_memory=True
)


@pytest.fixture(scope="module")
def library(footage, tmp_path_factory) -> Library:
    cache = tmp_path_factory.mktemp("cache")
    warned: list[str] = []
    sources = find_sources(footage, EVERYTHING)
    assert [source.name for source in sources] == ["00001_0001", "a", "b", "broken"]
    for share in ((0, 2), (1, 2)):  # as two processes would
        prepare(sources, cache, passes(EVERYTHING), warn=warned.append, share=share)
    assert len(warned) == 1
    assert "broken.mp4" in warned[0]
    library = load_library(footage, EVERYTHING, cache, sources, warned.append)
    assert "3.jpg: it is no picture" in warned[1]
    return library


def test_what_a_library_holds(library):
    shapes = {clip.name: clip.frames.shape for clip in library.clips}
    assert shapes["a@1"] == (18, 80, 96, 3)
    assert shapes["a@0.6"] == (18, 48, 48, 3)
    assert shapes["00001_0001@1"] == (7, 64, 80, 3)
    assert library.skipped == 2
    assert len(library.images) == 2
    steps = {clip.name: sorted(clip.motion) for clip in library.clips}
    assert steps["a@1"] == [-2, -1, 1, 2]
    assert steps["a@0.6"] == [-1, 1]


def test_a_missing_folder_is_named(footage):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        find_sources(footage, Data(clips=["nowhere"]))


def make_sampler(library: Library, slots, **changes) -> Sampler:
    how = {
        "frames": 2,
        "crop": 48,
        "longest": 8,
        "short_share": 0.25,
        "still_share": 0.3,
        "reset_period": 3,
        "seed": 7,
        "stage": 0,
    }
    return Sampler(library, slots=slots, **{**how, **changes})


def test_slots_are_the_same_whoever_draws_them(library):
    whole, left, right = (make_sampler(library, slots) for slots in (range(4), range(2), range(2, 4)))
    for _ in range(6):
        batch, parts = whole.next(), (left.next(), right.next())
        for name in ("pictures", "motion", "intra", "reset", "age", "quality"):
            both = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(getattr(batch, name), both)


def test_half_of_what_is_seen_opens_with_an_i_frame(library):
    sampler = make_sampler(library, range(4), short_share=0.5)
    opening = np.concatenate([sampler.next().intra[:, 0] for _ in range(150)])
    # The other half is in sequences of 2, 3 and 4 windows, as much in each.
    assert opening.mean() == pytest.approx(0.5 + 0.5 * (1 / 2 + 1 / 3 + 1 / 4) / 3, abs=0.06)


def test_a_sampler_goes_on_where_another_stopped(library):
    first, second = make_sampler(library, range(3)), make_sampler(library, range(3))
    for _ in range(5):
        first.next()
    second.restore(first.state())
    for _ in range(5):
        np.testing.assert_array_equal(first.next().pictures, second.next().pictures)


def test_flags_follow_the_age(library):
    sampler = make_sampler(library, range(4))
    batches = [sampler.next() for _ in range(8)]
    age = np.concatenate([batch.age for batch in batches])
    np.testing.assert_array_equal(np.concatenate([b.intra for b in batches]), age == 0)
    np.testing.assert_array_equal(
        np.concatenate([b.reset for b in batches]), (age > 0) & ((age - 1) % 3 == 0)
    )
    assert all((batch.motion[batch.intra] == 0).all() for batch in batches)


def test_stages_and_seeds_see_other_sequences(library):
    pictures = [
        make_sampler(library, range(2), **how).next().pictures for how in ({}, {"stage": 1}, {"seed": 8})
    ]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_a_crop_that_no_clip_has_is_refused(library):
    with pytest.raises(InputError, match="no clip has 2 frames of 512 x 512"):
        make_sampler(library, range(1), crop=512, still_share=0)


def test_streams_differ_by_purpose_step_and_slot():
    import torch

    drawn = {
        float(stream(1, purpose, step, slot).random())
        for purpose in Purpose
        for step in range(3)
        for slot in range(3)
    }
    assert len(drawn) == len(Purpose) * 9
    both = StepStreams(5, 2, [0, 1], torch.device("cpu")).uniform(Purpose.ROUNDING, (3,), (2, 2))
    alone = StepStreams(5, 2, [1], torch.device("cpu")).uniform(Purpose.ROUNDING, (3,), (2, 2))
    for whole, part in zip(both, alone, strict=True):
        torch.testing.assert_close(whole[1:], part, rtol=0, atol=0)


def test_a_still_moves_as_its_field_says(footage):
    """Motion compensation by the field explains the pictures: pans, zooms and turns."""
    import torch

    from s2vc.nn.motion import motion_compensate

    path = footage / "images" / "0.png"
    for seed in range(12):
        shot = still_sequence(path, np.random.default_rng(seed), 6, 64, None)
        frames = torch.from_numpy(shot.frames).permute(0, 3, 1, 2).float()
        predicted = motion_compensate(frames[:-1], torch.from_numpy(shot.motion[1:]))
        inner = (slice(None), slice(None), slice(12, -12), slice(12, -12))
        error = (predicted - frames[1:])[inner].abs().mean()
        still = (frames[:-1] - frames[1:])[inner].abs().mean()
        assert error < max(0.5 * float(still), 2.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 12))
def test_augmented_sequences_stay_sequences(seed, count):
    draw = np.random.default_rng(seed)
    plain = Footage(
        draw.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8),
        draw.integers(-9, 9, (count, 2, 2, 2)).astype(np.int16),
        draw.random((1, 3, 1, 1)).astype(np.float32),
        np.r_[0, np.full(count - 1, -1)],
    )
    result = augmented(plain, np.random.default_rng(seed))
    assert (result.frames.shape, result.frames.dtype) == (plain.frames.shape, np.uint8)
    assert (result.motion.shape, result.motion.dtype) == (plain.motion.shape, np.int16)
    again = augmented(plain, np.random.default_rng(seed))
    np.testing.assert_array_equal(result.frames, again.frames)


def test_a_cut_joins_two_scenes():
    def shot(level: int) -> Footage:
        features = np.full((2, 1, 1, 1), level, np.float32)
        frames = np.full((6, 16, 16, 3), level, np.uint8)
        return Footage(
            frames, np.full((6, 1, 1, 2), level, np.int16), features, np.array([0, -1, -1, -1, 1, -1])
        )

    joined = shot(1).cut_to(shot(2), 4)
    assert joined.frames[:, 0, 0, 0].tolist() == [1, 1, 1, 1, 2, 2]
    assert joined.features is not None
    assert joined.features[joined.feature_of[4], 0, 0, 0] == 2
    assert joined.feature_of.tolist() == [0, -1, -1, -1, 2, -1]


def test_shards_hold_what_was_packed(footage, tmp_path, scene):
    warned: list[str] = []
    packed = pack(
        [footage / "clips", footage / "vimeo"],
        tmp_path / "shards",
        scales=[1.0, 0.6],
        steps=[1],
        shortest=4,
        longest=10,
        shard_bytes=400_000,
        keep_all=True,
        warn=warned.append,
    )
    assert packed.skipped == len(warned) == 1
    assert packed.shards > 1
    paths = sorted((tmp_path / "shards").glob("*.tar"))
    samples = {name: (frames, motion) for path in paths for name, frames, motion in open_shard(path)}
    frames, motion = samples["a-0000-s100"]
    np.testing.assert_array_equal(frames, np.stack(scene(18, 96, 80)[:10]))
    assert sorted(motion) == [-1, 1]
    assert motion[1].shape == (10, 5, 6, 2)
    data = Data(shards=["shards/*.tar"])
    assert len(load_library(tmp_path, data, tmp_path, [], warned.append).clips) == len(samples)
    with pytest.raises(OutputError, match="holds shards already"):
        pack([footage / "clips"], tmp_path / "shards", warn=warned.append)


def test_a_damaged_shard_is_named(footage, tmp_path):
    pack([footage / "vimeo"], tmp_path, shortest=2, keep_all=True, warn=print)
    path = tmp_path / "shard-00000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"shard-00000\.tar cannot be read"):
        list(open_shard(path))


def test_scenes_part_at_cuts_and_at_their_longest(scene):
    first, second = scene(7, 96, 80), [255 - picture[:, ::-1] for picture in scene(5, 96, 80)]
    assert [len(part) for part in scenes(iter([*first, *second]), 4)] == [4, 3, 4, 1]


def test_faults_of_scenes(scene):
    good = np.stack(scene(3, 96, 80))
    noise = np.random.default_rng(1).integers(0, 256, good.shape).astype(np.uint8)
    assert fault(noise) is None
    assert fault(np.full_like(good, 90)) == "flat"
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, None, :, None] * 2, good.shape)
    assert fault(np.ascontiguousarray(ramp)) == "blurred"
    blocky = np.kron(noise[:, ::8, ::8], np.ones((1, 8, 8, 1), np.uint8))
    assert fault(np.ascontiguousarray(blocky)) == "blocky"


def test_clips_too_short_for_a_step_are_not_drawn_at_it():
    clip = Clip(
        "x", np.zeros((5, 32, 32, 3), np.uint8), {s: np.zeros((5, 2, 2, 2), np.int16) for s in (1, 2)}
    )
    sampler = make_sampler(Library([clip]), range(1), frames=4, crop=32, longest=4, still_share=0)
    assert sampler.next().pictures.shape == (1, 4, 3, 32, 32)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_cut_out_what_one_sampler_does(library):
    def make(slots):
        return make_sampler(library, slots)

    alone, feed, later = make(range(5)), Feed(make, range(5), workers=2), Feed(make, range(5), workers=1)
    for _ in range(3):
        expected, found = alone.next(), feed.next()
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), value)
        np.testing.assert_array_equal(feed.state(), alone.state())
    later.restore(feed.state())
    np.testing.assert_array_equal(later.next().pictures, alone.next().pictures)
