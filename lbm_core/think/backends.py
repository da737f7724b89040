"""Which engine samples chains of thought: transformers, vLLM in this process, or a server."""

from __future__ import annotations

import importlib.util
from typing import Any

from lbm_core.think.config import known_backend
from lbm_core.think.generate import Backend


def engine_of(name: str) -> str:
    """What a backend's name stands for here: "auto" is "vllm" where vLLM is installed, else "transformers"."""
    if name == "auto":
        return "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"
    return known_backend(name)


def choose_backend(name: str = "auto", model: str = "smollm2-135m", **options: Any) -> Backend:
    """The backend of a name, loaded; "auto" prints which it took.

    Parameters
    ----------
    name : "transformers", "vllm", "auto" (vLLM if it is installed, else transformers), or the address of a server with
        OpenAI's completions protocol, which must serve ``model`` under that name
    model : as :func:`lbm_core.act.backbone.load_backbone` takes it
    options : of :class:`~lbm_core.think.transformers_backend.TransformersBackend`,
        :class:`~lbm_core.think.vllm_backend.VllmBackend` or :class:`~lbm_core.think.server_backend.ServerBackend`

    Raises
    ------
    ValueError
        Unknown name.
    ModuleNotFoundError
        "vllm" without vLLM.
    ConnectionError
        No server answers at the address.
    """
    engine = engine_of(name)
    if name == "auto":
        print(f"chains of thought are written by {engine}")
    if engine == "transformers":
        from lbm_core.think.transformers_backend import TransformersBackend

        return TransformersBackend.load(model, **options)
    from lbm_core.act.backbone import backbone_files

    if engine == "vllm":
        from lbm_core.think.vllm_backend import VllmBackend

        return VllmBackend(backbone_files(model), **options)
    from lbm_core.think.server_backend import ServerBackend

    return ServerBackend(engine, backbone_files(model), **options)
