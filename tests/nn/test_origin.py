"""Where pixels came from: sums of vectors in place of pictures of pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2vc.nn.motion import motion_compensate
from s2vc.nn.origin import AGREE, follow, no_origin, settle

HEIGHT, WIDTH = 64, 80


def picture(seed, batch=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1021, (batch, 3, HEIGHT, WIDTH), generator=draw).float() / 4


def everywhere(x, y, batch=1):
    return torch.tensor([x, y]).expand(batch, HEIGHT // 16, WIDTH // 16, 2).clone()


def of(reference):
    """The origin that a picture is after an I-frame."""
    batch = len(reference)
    nothing = torch.zeros(batch, 1, HEIGHT, WIDTH, dtype=torch.bool)
    intra = torch.ones(batch, dtype=torch.bool)
    return settle(no_origin(batch, HEIGHT, WIDTH), reference, nothing, intra, torch.full((batch,), 30))


def after(origin, reference, touched, quality):
    flag = torch.zeros(len(reference), dtype=torch.bool)
    return settle(origin, reference, touched, flag, torch.full((len(reference),), quality))


@settings(max_examples=40, deadline=None)
@given(x=st.integers(-300, 300), y=st.integers(-300, 300))
def test_one_vector_finds_what_motion_compensation_does(x, y):
    kept = picture(1)
    found, origin = follow(of(kept), everywhere(x, y))
    assert origin.intact.all()
    expected = motion_compensate(kept, everywhere(x, y))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_there_and_back_again_is_the_picture_itself():
    kept = picture(2)
    found, origin = follow(of(kept), everywhere(2, -3))
    assert not torch.equal(found, kept)
    back, origin = follow(origin, everywhere(-2, 3))
    inside = (..., slice(8, -8), slice(8, -8))  # beyond the border nothing is kept
    torch.testing.assert_close(back[inside], kept[inside], rtol=0, atol=0)
    twice = motion_compensate(found, everywhere(-2, 3))
    assert (twice - kept)[inside].abs().mean() > 10


def test_where_blocks_part_nothing_is_followed():
    field = everywhere(0, 0)
    field[:, 1, 2] = torch.tensor([AGREE, 0])
    assert follow(of(picture(3)), field)[1].intact.all()
    field[:, 1, 2, 0] += 1
    intact = follow(of(picture(3)), field)[1].intact[0, 0]
    # Blocks overlap by four pixels on either side of their edges; the block's own middle goes on.
    expected = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    expected[12:36, 28:52] = False
    expected[20:28, 36:44] = True
    assert torch.equal(intact, expected)


def test_what_symbols_touched_is_followed_no_more():
    kept, touched = picture(4), torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    touched[..., 20:30, 40:50] = True
    origin = after(of(kept), kept, touched, 30)
    assert torch.equal(origin.intact, ~touched)
    _, origin = follow(origin, everywhere(-4 * 8, 0))
    expected = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    expected[20:30, 48:58] = False  # it moved eight pixels to the right
    assert torch.equal(origin.intact[0, 0], expected)


@pytest.mark.parametrize(("quality", "opens"), [(31, True), (30, False), (12, False)])
def test_a_finer_frame_is_an_origin(quality, opens):
    first, second = picture(5), picture(6)
    _, origin = follow(of(first), everywhere(5, 6))
    touched = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    origin = after(origin, second, touched, quality)
    assert bool(origin.intact.all()) is opens and bool(origin.intact.any()) is opens
    found, _ = follow(origin, everywhere(0, 0))
    if opens:
        torch.testing.assert_close(found, second, rtol=0, atol=0)
    assert int(origin.quality) == quality


def test_nothing_is_followed_before_a_first_frame():
    assert not follow(no_origin(1, HEIGHT, WIDTH), everywhere(1, 1))[1].intact.any()


def test_pictures_of_a_batch_are_each_their_own():
    kept = picture(7, batch=2)
    field = torch.cat([everywhere(3, 9), everywhere(-6, 2)])
    field[1, 0, 0] = 40
    both, origin = follow(of(kept), field)
    # The second opens anew, the first does not.
    nothing = torch.zeros(2, 1, HEIGHT, WIDTH, dtype=torch.bool)
    flag, quality = torch.tensor([False, True]), torch.tensor([20, 20])
    settled = settle(origin, both, nothing, flag, quality)
    for i in range(2):
        one = slice(i, i + 1)
        alone, its = follow(of(kept[one]), field[one])
        torch.testing.assert_close(both[one], alone, rtol=0, atol=0)
        its = settle(its, both[one], nothing[one], flag[one], quality[one])
        for name, value in vars(its).items():
            torch.testing.assert_close(getattr(settled, name)[one], value, rtol=0, atol=0)
