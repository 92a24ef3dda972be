"""Which frame is what: I-frames, resets, chunks, windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2vc.bitstream import CHUNK_FRAMES
from s2vc.codec.schedule import WINDOW, Schedule, is_reset, windows


def test_resets_are_counted_from_the_intra_frame():
    """ARCHITECTURE §2: frames 1, 33, 65, ... after an I-frame."""
    assert [n for n in range(100) if is_reset(n, 32)] == [1, 33, 65, 97]
    assert not any(is_reset(n, 0) for n in range(100))


@given(st.lists(st.booleans(), max_size=150), st.sampled_from([0, 1, 5, 32]))
def test_intra_frames_open_chunks_of_at_most_32(flags, period):
    schedule = Schedule(period)
    flags = [True, *flags]
    length, since = 0, 0
    for flag in flags:
        kind = schedule.next(flag, 7)
        since = 0 if flag else since + 1
        assert (kind.intra, kind.quality) == (flag, 7)
        assert kind.reset == (is_reset(since, period))
        opens = flag or length == CHUNK_FRAMES
        assert schedule.opens_chunk == opens
        length = 1 if opens else length + 1
        assert length <= CHUNK_FRAMES


@pytest.mark.parametrize("count", range(CHUNK_FRAMES + 1))
def test_windows_cover_a_chunk_from_its_start(count):
    frames = list(range(count))
    parts = [frames[window] for window in windows(count)]
    assert [frame for part in parts for frame in part] == frames
    assert all(len(part) == WINDOW for part in parts[:-1])
    # What is cut off a chunk's end does not move the windows before it.
    assert parts[:-1] == [frames[window] for window in windows(CHUNK_FRAMES)][: max(0, len(parts) - 1)]
