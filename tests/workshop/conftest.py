"""The ``lbm`` command inside the process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lbm_core import cli


@pytest.fixture
def lbm(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run ``lbm`` with some arguments: exit status, what it printed, what it said on stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            cli.main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run
