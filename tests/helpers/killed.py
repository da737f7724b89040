"""A training that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """Whatever trains in this block dies after some gradient steps."""
    left = iter(range(steps - 1))

    def dies(*_) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    hook = register_optimizer_step_post_hook(dies)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        hook.remove()
