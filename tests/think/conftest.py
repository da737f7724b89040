"""A language model of a few thousand weights, in memory and in a folder."""

from __future__ import annotations

import pytest
from tiny_language_model import tiny_language_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> str:
    folder, backbone = tmp_path_factory.mktemp("tiny"), tiny_language_model()
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return str(folder)
