import numpy as np
import pytest

from pipeline.atlas import SHAPE
from pipeline.imaging.head import COARSE, FINE


@pytest.mark.parametrize("grid", [FINE, COARSE], ids=["fine", "coarse"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, bool])
def test_blocks_are_averaged(grid, dtype, rng):
    array = (rng.random(SHAPE) if dtype is not bool else rng.random(SHAPE) > 0.5).astype(dtype)
    f = grid.factor
    blocks = array.reshape([part for n in SHAPE for part in (n // f, f)])
    found = grid.bring(array)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, blocks.mean(axis=(1, 3, 5), dtype=np.float64), rtol=1e-6)
