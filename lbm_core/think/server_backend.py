"""Text generation by a server, behind :func:`lbm_core.think.generate.generate`.

Any server with OpenAI's protocol: ``GET /v1/models`` and ``POST /v1/completions``. Tested with vLLM's,
``python -m vllm.entrypoints.openai.api_server --model FOLDER --served-model-name smollm2-135m``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx  # comes with jupyterlab, which needs it itself

from lbm_core.act.backbone import BackboneFiles
from lbm_core.seeding import integer_seed
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Generation


class ServerBackend:
    """Generation by a server: one request per text, with its own seed, so that servers without ``n`` serve too.

    Equal arguments give equal texts only as far as the server's own arithmetic does not depend on what else it is
    computing at that moment.

    Parameters
    ----------
    base_url : e.g. "http://127.0.0.1:8000/v1"; "/v1" is added to an address without a path
    files : the model that the server serves, here for its tokenizer; it must be in the cache or reachable
    model : the model's name on the server; default the name of ``files``
    batch_size : prompts per call of :meth:`sample`, >= 1
    retries : new attempts, >= 0, where the server cannot be reached, is too slow or overloaded, or fails (5xx)
    stops : whether the server ends texts at the stop string. It must then keep the string in the text, or say by
        ``stop_reason`` that it met it, as vLLM does; for other servers False: texts are written on and cut here
    api_key : sent as bearer token

    Raises
    ------
    ConnectionError
        No server answers.
    ValueError
        It does not serve the model, or a setting is out of its range.
    """

    parallel = 48  # requests in flight
    timeout = 600.0  # seconds for one text
    pause = 0.5  # seconds before the first new attempt; doubled with every further one

    def __init__(
        self,
        base_url: str,
        files: BackboneFiles,
        model: str | None = None,
        *,
        batch_size: int = 16,
        retries: int = 3,
        stops: bool = True,
        api_key: str | None = None,
    ) -> None:
        if batch_size < 1 or retries < 0:
            raise ValueError(f"batch_size must be at least 1 and retries 0; got {batch_size} and {retries}")
        address = httpx.URL(base_url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"{base_url!r} is not the address of a server, such as http://127.0.0.1:8000/v1")
        self.base_url = str(address if address.path.strip("/") else address.join("/v1")).rstrip("/")
        self.files, self.tokenizer, self.model = files, files.tokenizer, model or files.name
        self.batch_size, self.retries, self.stops = batch_size, retries, stops
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(self.timeout, connect=10.0),
            limits=httpx.Limits(max_connections=self.parallel, max_keepalive_connections=self.parallel),
        )
        served = [model["id"] for model in self._request("GET", "/models")["data"]]
        if self.model not in served:
            raise ValueError(
                f"the server at {self.base_url} serves {', '.join(map(repr, served)) or 'nothing'} and not "
                f"{self.model!r}: start it with --served-model-name {self.model}, or say its name for the model"
            )
        self.name = f"{self.model} (served, with the tokenizer of {files.name}, {files.revision})"

    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt (:class:`Backend`).

        Raises
        ------
        ConnectionError
            The server does not answer, or fails, also after the last attempt.
        ValueError
            It refuses a request, or reads a prompt as other tokens than the tokenizer here.
        """
        start = time.perf_counter()
        stop = {"stop": [sampling.stop], "include_stop_str_in_output": True} if self._stop(sampling) else {}
        requests: list[dict[str, Any]] = [
            {
                "model": self.model,
                "prompt": prompt,
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": integer_seed(seed, "think", k, sample),
                "add_special_tokens": False,  # the chat template has written them; known to vLLM, ignored by others
                **stop,
            }
            for k, prompt in enumerate(prompts)
            for sample in range(n)
        ]
        with ThreadPoolExecutor(min(self.parallel, len(requests))) as pool:
            answers = list(pool.map(lambda request: self._request("POST", "/completions", request), requests))
        seconds = (time.perf_counter() - start) / len(requests)
        lengths = [len(ids) for ids in self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]
        texts = [self._read(answer, lengths[k // n], sampling, seconds) for k, answer in enumerate(answers)]
        return [texts[k : k + n] for k in range(0, len(texts), n)]

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._client.close()

    def _stop(self, sampling: Sampling) -> bool:
        return self.stops and bool(sampling.stop)

    def _request(self, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to one request, tried again a few times where that can help."""
        address = self.base_url + path
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return self._client.request(method, address, json=content).raise_for_status().json()
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            except httpx.HTTPStatusError as error:
                reason = f"status {error.response.status_code}: {error.response.text[:500]}"
                if error.response.status_code != 429 and error.response.status_code < 500:
                    raise ValueError(f"{address} refused the request ({reason})") from None
            except ValueError as error:
                raise ValueError(f"{address} answered something that is not JSON") from error
        raise ConnectionError(
            f"no answer from {address} in {self.retries + 1} attempts ({reason}); is a server with OpenAI's "
            f"protocol running there?"
        )

    def _read(self, answer: dict[str, Any], expected: int, sampling: Sampling, seconds: float) -> Generation:
        """One text in the form of the other backends: with the stop string, its end token not counted."""
        choice, usage = answer["choices"][0], answer["usage"]
        if usage["prompt_tokens"] != expected:
            raise ValueError(
                f"the server at {self.base_url} read a prompt as {usage['prompt_tokens']} tokens, the tokenizer of "
                f"{self.files.name!r} writes {expected}: it serves another model, or adds special tokens"
            )
        text, tokens, finish = choice["text"], usage["completion_tokens"], choice["finish_reason"]
        if finish not in ("stop", "length"):
            raise ValueError(f"the server at {self.base_url} ended a text for the unknown reason {finish!r}")
        stop = sampling.stop
        if self._stop(sampling) and finish == "stop" and stop not in text:
            if "stop_reason" not in choice:
                raise ValueError(
                    f"the server at {self.base_url} does not say whether a text ended at {stop!r}; use stops=False"
                )
            if choice["stop_reason"] == stop:
                text += stop
        if stop and stop in text:
            whole, text = text, text[: text.index(stop) + len(stop)]
            if len(whole) > len(text) or not self._stop(sampling):  # written on behind it, if only an end token
                tokens = len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            return Generation(text, tokens, "stop", seconds)
        return Generation(text, tokens - (finish == "stop"), finish, seconds)
