"""The file of ``lbm data traffic``."""

import numpy as np
import pytest

from lbm_core.auction.traffic import Traffic
from lbm_core.workshop.export import write_traffic_npz


def test_write_npz(tmp_path):
    path = write_traffic_npz(7, "dense", "data", [2, 0, 2], tmp_path / "traffic.npz")
    with np.load(path) as written:
        assert set(written) == {"counts", "pvalues_t0", "sigmas_t0", "pvalues_t2", "sigmas_t2"}
        pvalues, sigmas = Traffic(7, "dense").tick(2)
        assert np.array_equal(written["pvalues_t2"], pvalues)
        assert np.array_equal(written["sigmas_t2"], sigmas)


def test_bad_request_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tick must lie in 0\.\.47, got 48"):
        write_traffic_npz(7, "dense", "data", [48], tmp_path / "traffic.npz")
    with pytest.raises(ValueError, match=r"\.npz"):
        write_traffic_npz(7, "dense", "data", [0], tmp_path / "traffic.csv")
    assert not list(tmp_path.iterdir())
