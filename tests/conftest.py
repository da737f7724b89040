from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """The longest test first, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.name != "test_the_whole_chain_in_miniature")


@pytest.fixture
def write_notebook(tmp_path) -> Callable[..., Path]:
    """:func:`small_notebook.write` in the test's own folder."""
    from small_notebook import write  # loads papermill

    return partial(write, tmp_path)
