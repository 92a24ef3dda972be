"""What the conformance vectors cannot show: their widths are equal where these rules bite."""

from __future__ import annotations

import pytest
import torch

from s2vc.nn.base.blocks import NormResBlock
from s2vc.nn.base.prior import ScalarQuantiser, fold, four_pass_masks, two_pass_masks, unfold
from s2vc.nn.base.vae import attend_in_windows


def test_a_norm_block_that_widens_has_no_path_around_itself():
    """ARCHITECTURE §3: the 1x1 reads the branch, result = h + W h."""
    torch.manual_seed(0)
    block = NormResBlock(32, 64).double()
    x = torch.randn(1, 32, 4, 4, dtype=torch.double)
    with torch.no_grad():
        whole = block(x)
        weight = block.shortcut.weight[:, :, 0, 0].clone()
        block.shortcut.weight.zero_()
        branch = block(x)
    torch.testing.assert_close(whole, branch + torch.einsum("oi,bihw->bohw", weight, branch))
    assert not torch.allclose(whole, branch)


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (16, 5), (3, 33), (7, 7)])
def test_windows_are_attended_one_by_one(size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)

    def attention(window):  # anything that sees a whole window and its shape
        assert window.shape[2] <= 16 and window.shape[3] <= 16
        return window - window.mean(dim=(1, 2, 3), keepdim=True) + window.shape[3]

    expected = torch.empty_like(x)
    for top in range(0, size[0], 16):
        for left in range(0, size[1], 16):
            window = (slice(None), slice(None), slice(top, top + 16), slice(left, left + 16))
            expected[window] = attention(x[window])
    torch.testing.assert_close(attend_in_windows(attention, x, 16), expected)


@pytest.mark.parametrize("masks, parts", [(four_pass_masks, 4), (two_pass_masks, 2)])
def test_passes_cover_every_position_once_and_fold_losslessly(masks, parts):
    x = torch.randn(2, 8, 5, 7)
    found = masks(8, 5, 7)
    assert torch.equal(found.sum(dim=0), torch.ones(8, 5, 7, dtype=torch.long))
    folded = [fold(x, mask, parts) for mask in found]
    assert all(f.shape == (2, 8 // parts, 5, 7) for f in folded)
    assert torch.equal(sum(unfold(f, mask, parts) for f, mask in zip(folded, found, strict=True)), x)


def test_scalar_quantiser_reaches_every_code():
    quantiser = ScalarQuantiser((4, 3, 4))
    index = torch.arange(quantiser.codes)[None, None]
    assert torch.equal(quantiser.index(quantiser.decode(index) * 1.5), index)
