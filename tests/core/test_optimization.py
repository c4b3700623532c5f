"""The tensors to optimize, and the loss an optimizer may ask for."""

import pytest
import torch

from refine.core.optimization import single_evaluation, trainable_copy


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
    assert closure() == 0.5
    with pytest.raises(ValueError, match="an update is one evaluation"):
        closure()
