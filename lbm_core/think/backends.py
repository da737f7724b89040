"""Which engine samples chains of thought: transformers, vLLM in this process, or a server."""

import importlib.util
from typing import Any

from lbm_core.think.generate import Backend


def engine_of(name: str) -> str:
    """What a backend's name stands for here: "auto" is "vllm" where vLLM is installed, else "transformers"."""
    if name == "auto":
        return "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"
    return name


def choose_backend(
    name: str = "auto", model: str = "smollm2-135m", *, dtype: str = "bfloat16", **options: Any
) -> Backend:
    """The backend of a name, loaded; "auto" prints which it took.

    Names are "transformers", "vllm", "auto" (vLLM if it is installed, else transformers), or the address of a server
    with OpenAI's completions protocol, which must serve ``model`` under that name. Model and dtype are
    :func:`lbm_core.act.backbone.load_backbone`'s (a server has its own dtype), options the backend's. ValueError for an
    unknown name, ModuleNotFoundError for "vllm" without vLLM, ConnectionError without a server.
    """
    from lbm_core.act.backbone import backbone_files, load_backbone

    engine = engine_of(name)
    if name == "auto":
        print(f"chains of thought are written by {engine}")
    if engine == "transformers":
        from lbm_core.think.transformers_backend import TransformersBackend

        return TransformersBackend(load_backbone(model, dtype=dtype), **options)
    if engine == "vllm":
        from lbm_core.think.vllm_backend import VllmBackend

        return VllmBackend(backbone_files(model), dtype=dtype, **options)
    from lbm_core.think.server_backend import ServerBackend

    return ServerBackend(engine, backbone_files(model), **options)
