"""What the trained baselines share: the log of a training."""

import numpy as np
import pytest
import torch

from lbm_core.baselines.common import averaged, perceptron


@pytest.mark.parametrize(
    ("losses", "rows", "expected"),
    [
        ([3.0, 1.0], 100, [[1, 3.0], [2, 1.0]]),
        ([3.0, 1.0, 4.0, 2.0, 7.0], 2, [[2, 2.0], [4, 3.0], [5, 7.0]]),
        ([(3.0, 0.0), (1.0, 2.0)], 1, [[2, 2.0, 1.0]]),
    ],
)
def test_losses_are_averaged_since_the_row_before(losses, rows, expected):
    np.testing.assert_array_equal(averaged(losses, rows), expected)


def test_a_perceptron_is_linear_only_at_its_end():
    network = perceptron(3, 5, 2)
    assert [type(layer) for layer in network] == [torch.nn.Linear, torch.nn.ReLU, torch.nn.Linear]
    assert network(torch.zeros(4, 3)).shape == (4, 2)
