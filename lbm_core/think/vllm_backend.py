"""Text generation with vLLM, behind :func:`lbm_core.think.generate.generate`.

vLLM (Kwon et al. 2023, PagedAttention) keeps many texts in flight, replaces each that ends by the next, and reads what
prompts share only once. `make vllm` installs it.
"""

import importlib.util
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lbm_core.act.backbone import DTYPES, BackboneFiles
from lbm_core.seeding import integer_seed
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Generation, answer_place, answer_starts, normalised

# vLLM reads its settings from the environment. Set before it is imported, and only where the user has not set them.
_ENVIRONMENT = {
    # The scheduler in this process: it then sees a whole batch at once. In its own it would begin with the prompts that
    # happened to have arrived, and bfloat16 sums depend on what is computed together: other texts each time.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # On CPUs, threads pinned to a core (the default) wait for whatever else runs there, and one core is left out.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",  # a line per weight otherwise, in the notebook's output
}
CANDIDATES = 8  # tokens at each place whose chances are asked for; an answer that is not among them has none
_ON_GPU = {"gpu_memory_utilization": 0.5}  # the rest is left to LBM-Act and the critic
_ON_CPU = {
    "kv_cache_memory_bytes": 2**30,  # 46,000 tokens of SmolLM2-135M in bfloat16, what prompts share counted once
    "max_num_seqs": 48,  # texts in flight; more gain nothing
    "block_size": 32,  # tokens; what prompts share is found in whole blocks, of which the default of 128 leaves much
    "enforce_eager": True,  # compiling takes longer than it saves
    # Every prompt is read in one step: vLLM winds the seed of one read in pieces back by an offset, which generators
    # on CPUs do not have.
    "enable_chunked_prefill": False,
}


class VllmBackend:
    """Generation with vLLM, on the GPU where the installed build finds one, else on the CPU.

    The engine starts with the first text: a run whose texts are all stored never waits for it. Its worker is a process
    of its own, whose memory comes back with :meth:`close`. ``dtype`` is "float32", "bfloat16" or "float16", ``longest``
    the tokens of a prompt and its text together, at most; cut down to what the model can read.
    """

    batch_size = 48  # prompts per call of generate(); vLLM decides itself how many texts are in flight

    def __init__(self, files: BackboneFiles, *, dtype: str = "bfloat16", longest: int = 4096) -> None:
        if longest < 2 or dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise ValueError(f"longest must be at least 2, dtype one of {known}; got {longest} and {dtype!r}")
        if importlib.util.find_spec("vllm") is None:
            raise ModuleNotFoundError("vLLM is not installed; install it with 'make vllm'", name="vllm")
        self.files, self.tokenizer, self.dtype = files, files.tokenizer, dtype
        self.longest = min(longest, files.positions)
        self.name = f"{files.name} ({files.revision}, {dtype}, vllm)"
        self._engine: Any = None

    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt; one that with its text is longer than ``longest`` is refused."""
        # Token ids rather than text: the chat template has written the special tokens already.
        encoded = self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        longest = max(map(len, encoded)) + sampling.max_new_tokens
        if longest > self.longest:
            limit = f"the limit is {self.longest} of the {self.files.positions} that this model reads"
            raise ValueError(f"a prompt and its text take up to {longest} tokens, but {limit}: shorten one of the two")
        vllm = _import_vllm()
        engine = self._engine = self._engine or self._start(vllm)
        start = time.perf_counter()
        # What an earlier batch left would change what is computed together, and with it the last bits of bfloat16.
        engine.reset_prefix_cache()
        drawn = n if sampling.temperature > 0 else 1  # vLLM refuses to write the most likely text n times
        parametrized = partial(
            vllm.SamplingParams,
            n=drawn,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop=[sampling.stop] if sampling.stop else None,
            include_stop_str_in_output=True,
            logprobs=CANDIDATES,
        )
        # vLLM adds 0 … n - 1 to the seed for the n texts.
        parameters = [parametrized(seed=integer_seed(seed, "think", k)) for k in range(len(prompts))]
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in encoded], parameters, use_tqdm=False)
        seconds = (time.perf_counter() - start) / (len(prompts) * n)
        return [[self._read(text, seconds) for text in output.outputs] * (n // drawn) for output in outputs]

    def close(self) -> None:
        """End the worker and give its memory back; the next text starts another."""
        if self._engine is not None:
            self._engine.llm_engine.engine_core.shutdown()
            self._engine = None

    def _start(self, vllm: Any) -> Any:
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if not (on_cpu or current_platform.is_cuda_alike()):
            raise RuntimeError("the installed vLLM is the one for GPUs and finds none; run 'make vllm' again")
        with _main_left_alone():
            return vllm.LLM(
                model=self.files.source,
                revision=None if Path(self.files.source).is_dir() else self.files.revision,
                dtype=self.dtype,
                max_model_len=self.longest,
                enable_prefix_caching=True,
                generation_config="vllm",  # only the tokenizer's end token ends a text, as with transformers
                distributed_executor_backend="mp",
                **(_ON_CPU | {"max_num_batched_tokens": self.longest} if on_cpu else _ON_GPU),
            )

    def _read(self, output: Any, seconds: float) -> Generation:
        """One text; its end token is not counted, as with transformers."""
        ended = self.tokenizer.eos_token_id in output.token_ids[-1:]
        place, chances = answer_place(output.token_ids, self.tokenizer), None
        if place is not None:
            candidates = output.logprobs[place]
            told = (candidates.get(token) for token in answer_starts(self.tokenizer))
            chances = normalised([0.0 if one is None else math.exp(one.logprob) for one in told])
        return Generation(output.text, len(output.token_ids) - ended, output.finish_reason, seconds, chances)


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep a new worker from importing the running script, which Python's "spawn" does where main has a name or file.

    Without a guard it would run twice; one that imports numba ends vLLM's worker on CPUs, which trips over llvmlite.
    """
    main: Any = sys.modules["__main__"]
    # No file rather than None in its place, over which the module inspect trips.
    kept = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


def _import_vllm() -> Any:
    """The module vllm, with the settings above; one sentence where its import fails."""
    # Not told how many threads to use, vLLM leaves one to its worker and, for good, to torch in this process.
    settings = _ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})
    try:
        import vllm

        vllm.LLM  # noqa: B018 -- this is what imports the rest
    except (ImportError, OSError, RuntimeError) as error:
        cause = f"vLLM is installed but cannot be imported ({str(error).splitlines()[0]})"
        cure = "'make vllm' installs this machine's build and removes what breaks it (torchvision, torchaudio, ...)"
        raise ModuleNotFoundError(f"{cause}; {cure}", name="vllm") from error
    return vllm
