"""Recorded rows for the tests of reports."""

import pandas as pd
import pytest

from lbm_core.report import results


@pytest.fixture
def rows():
    """Two rows of a result, one of a method named like a missing value."""
    return pd.DataFrame({"method": ["A", "None"], "seed": [0, 1], "score": [1 / 3, 2.0]})


@pytest.fixture
def record(tmp_path, rows):
    """Record these rows, or others, in a folder of the test."""

    def recorded(frame=rows, experiment="demo", **options):
        settings = {"tier": "laptop", "dataset": "dense", "backbone": "b", "output": tmp_path} | options
        return results.record(experiment, frame, **settings)

    return recorded
