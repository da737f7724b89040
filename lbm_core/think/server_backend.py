"""Text generation by a server, behind :func:`lbm_core.think.generate.generate`.

Any server with OpenAI's protocol: ``GET /v1/models`` and ``POST /v1/completions``. Tested with vLLM's,
``python -m vllm.entrypoints.openai.api_server --model FOLDER --served-model-name smollm2-135m``.
"""

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NotRequired
from urllib.parse import urlsplit

import requests  # comes with jupyterlab, which needs it itself
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError
from requests.adapters import HTTPAdapter, Retry
from requests.utils import get_environ_proxies, select_proxy
from typing_extensions import TypedDict  # pydantic's own, before Python 3.12

from lbm_core.act.backbone import BackboneFiles
from lbm_core.seeding import integer_seed
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Generation

FAILING = (429, *range(500, 600))  # overloaded, or failing: statuses that may pass


# What is read of the answers, checked before it is used.
_Model = TypedDict("_Model", {"id": str})  # noqa: UP013
_Models = TypedDict("_Models", {"data": list[_Model]})  # noqa: UP013
_Choice = TypedDict("_Choice", {"text": str, "finish_reason": Any, "stop_reason": NotRequired[Any]})  # noqa: UP013
_Usage = TypedDict("_Usage", {"prompt_tokens": NonNegativeInt, "completion_tokens": NonNegativeInt})  # noqa: UP013
_Texts = TypedDict(  # noqa: UP013
    "_Texts", {"choices": Annotated[list[_Choice], Field(min_length=1)], "usage": _Usage}
)


class ServerBackend:
    """Generation by a server: one request per text, with its own seed, so that servers without ``n`` serve too.

    Equal arguments give equal texts as far as the server's arithmetic does not depend on what else it computes. A
    request is tried again where the server cannot be reached, is overloaded, or fails (in the end: ConnectionError).
    ``files`` is the model that the server must serve under its name, here for its tokenizer; "/v1" is added to an
    address without a path.
    """

    batch_size = 16  # prompts per call of generate()
    parallel = 48  # requests in flight
    timeout = (10.0, 600.0)  # seconds to connect, and for one text
    retries = 3  # new attempts; the pause before them grows

    def __init__(self, base_url: str, files: BackboneFiles) -> None:
        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            known = "auto, transformers, vllm or the address of a server, such as http://127.0.0.1:8000/v1"
            raise ValueError(f"unknown backend {base_url!r}; one of {known}")
        self.base_url = base_url.rstrip("/") + ("" if address.path.strip("/") else "/v1")
        self.files, self.tokenizer = files, files.tokenizer
        always: dict[str, Any] = {"allowed_methods": None, "raise_on_status": False}  # the last answer says why
        retry = Retry(self.retries, status_forcelist=FAILING, backoff_factor=0.5, **always)
        self._session = requests.Session()
        # A proxy cannot reach this machine's own servers.
        self._session.trust_env = not re.fullmatch(r"localhost|127\.[\d.]+|::1", address.hostname)
        self._session.mount(address.scheme + "://", HTTPAdapter(pool_maxsize=self.parallel, max_retries=retry))
        # Whether the server ends texts at the stop string; one that does not say when it did so writes on.
        self._stops = True
        served = [model["id"] for model in self._request("GET", "/models", _Models)["data"]]
        if files.name not in served:
            other = f"serves {', '.join(map(repr, served)) or 'nothing'} and not {files.name!r}"
            raise ValueError(f"the server at {base_url} {other}: start it with --served-model-name {files.name}")
        self.name = f"{files.name} (served, with the tokenizer of {files.name}, {files.revision})"

    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt; a request that fails or is refused, or other tokens than here, end it."""
        start = time.perf_counter()
        shared: dict[str, Any] = {
            "model": self.files.name,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "add_special_tokens": False,  # the chat template has written them; known to vLLM, ignored by others
        }
        own = [(k, j) for k in range(len(prompts)) for j in range(n)]
        contents = [shared | {"prompt": prompts[k], "seed": integer_seed(seed, "think", k, j)} for k, j in own]
        with ThreadPoolExecutor(min(self.parallel, len(contents))) as pool:
            choices = list(pool.map(lambda content: self._write(content, sampling.stop), contents))
        seconds = (time.perf_counter() - start) / len(contents)
        texts = [Generation(*choice, seconds) for choice in choices]
        return [texts[k : k + n] for k in range(0, len(texts), n)]

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._session.close()

    def _request(self, method: str, path: str, form: Any, content: dict[str, Any] | None = None) -> Any:
        """The answer to one request, in the form that it must have."""
        address = self.base_url + path
        try:
            response = self._session.request(method, address, json=content, timeout=self.timeout)
            response.raise_for_status()
            return TypeAdapter(form).validate_json(response.content)
        except ValidationError as error:
            where = "; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}" for each in error.errors()[:1])
            raise ValueError(f"{address} did not answer as OpenAI's protocol says ({where})") from None
        except (requests.RequestException, ValueError) as error:  # a proxy of an unknown kind is a ValueError
            answer = getattr(error, "response", None)
            failure = (
                f"{error}{self._proxy(address)}"
                if answer is None
                else f"status {answer.status_code}: {answer.text[:500]}"
            )
            if answer is not None and answer.status_code not in FAILING:
                raise ValueError(f"{address} refused the request ({failure})") from None
            tried = f"{address} in {self.retries + 1} attempts ({failure})"
            raise ConnectionError(f"no answer from {tried}; is a server with OpenAI's protocol there?") from None

    def _proxy(self, address: str) -> str:
        """Which proxy of the environment stands before an address, without its password."""
        proxy = select_proxy(address, get_environ_proxies(address)) if self._session.trust_env else None
        cure = "of HTTP_PROXY or ALL_PROXY; NO_PROXY names hosts to reach without"
        return f", through the proxy {proxy.rpartition('@')[2]} {cure}" if proxy else ""

    def _write(self, content: dict[str, Any], stop: str) -> tuple[str, int, str]:
        """Text, tokens and finish of one request, as of other backends: with the stop string, without the end token."""
        stops = {"stop": [stop], "include_stop_str_in_output": True} if stop and self._stops else {}
        answer = self._request("POST", "/completions", _Texts, content | stops)
        choice, usage = answer["choices"][0], answer["usage"]
        expected = len(self.tokenizer(content["prompt"], add_special_tokens=False)["input_ids"])
        if usage["prompt_tokens"] != expected:
            differing = f"read a prompt as {usage['prompt_tokens']} tokens, the tokenizer here as {expected}"
            raise ValueError(f"the server {differing}: it serves another model, or adds special tokens")
        text, tokens, finish = choice["text"], usage["completion_tokens"], choice["finish_reason"]
        if finish not in ("stop", "length"):
            raise ValueError(f"the server at {self.base_url} ended a text for the unknown reason {finish!r}")
        if stops and finish == "stop" and stop not in text:
            if "stop_reason" not in choice:  # its own end, or the stop string cut off?
                self._stops = False
                return self._write(content, stop)
            text += stop if choice["stop_reason"] == stop else ""
        if not stop or stop not in text:
            return text, tokens - (finish == "stop"), finish
        whole, text = text, text[: text.index(stop) + len(stop)]
        if not stops or len(whole) > len(text):  # written on behind it, if only an end token
            tokens = len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return text, tokens, "stop"
