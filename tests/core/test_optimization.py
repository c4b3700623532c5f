"""The tensors to optimize, and the loss an optimizer may ask for."""

import pytest
import torch

from refine.core.optimization import coarse_change, single_evaluation, trainable_copy


@pytest.mark.parametrize(
    ("dtype", "wide"), [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_a_copy_to_optimize_is_a_contiguous_leaf_of_its_own(dtype, wide):
    feature = torch.rand(1, 4, 3, 3).to(dtype, memory_format=torch.channels_last)
    z = trainable_copy(feature)
    assert z.is_leaf and z.requires_grad and z.is_contiguous() and z.dtype == wide
    assert torch.equal(z.detach(), feature.to(wide)) and z.data_ptr() != feature.data_ptr()


def test_the_loss_of_an_update_is_told_once():
    closure = single_evaluation(torch.tensor(0.5))
    assert closure().item() == 0.5
    with pytest.raises(ValueError, match="an update is one evaluation"):
        closure()


def test_only_the_coarse_part_of_a_change_is_taken():
    """A change of color passes the Gaussian, a checkerboard does not; far inside the hole the edge is not felt."""
    before, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 8:48, 8:48] = 1
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    checkerboard = 1.0 - 2.0 * ((rows + columns) % 2)
    changed = coarse_change(before, before + 0.3 + 0.2 * checkerboard, mask, sigma=3)
    middle = (..., slice(20, 36), slice(20, 36))
    torch.testing.assert_close(changed[middle], before[middle] + 0.3, atol=1e-4, rtol=0)
    assert torch.equal(changed[..., :, 63], before[..., :, 63])  # further from the hole than the Gaussian reaches
    at_edge = (changed - before)[..., 28, 8]
    assert ((at_edge > 0.1) & (at_edge < 0.2)).all()  # half of the change comes from outside, where there is none
