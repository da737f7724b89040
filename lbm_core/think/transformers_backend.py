"""Text generation with transformers, behind :func:`lbm_core.think.generate.generate`."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StaticCache,
)
from transformers.masking_utils import sdpa_mask

from lbm_core.act.backbone import Backbone
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Generation, answer_place, answer_starts, normalised


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Grouped-query attention without copying keys and values for each query head.

    transformers' own function copies them under a mask: on a CPU ten times as costly as the attention. Of one new token
    a row the query heads of a group, which see the same keys, are passed as its tokens: about four times as fast.
    """
    attend = partial(scaled_dot_product_attention, attn_mask=attention_mask, scale=scaling)
    if query.shape[2] == 1:
        rows, heads, _one, size = query.shape
        grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
        return attend(grouped, key, value).reshape(rows, 1, heads, size), None
    output = attend(query, key, value, is_causal=attention_mask is None, enable_gqa=True)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register("lbm_grouped", grouped_attention)
AttentionMaskInterface.register("lbm_grouped", sdpa_mask)


class TransformersBackend:
    """Generation with transformers, ``batch_size`` prompts at once, each computed once for its n samples.

    bfloat16 is about 2.5 times as fast as float32 on CPUs that know it.
    """

    batch_size = 16

    def __init__(self, backbone: Backbone) -> None:
        backbone.model.to("cuda" if torch.cuda.is_available() else "cpu")
        if backbone.model.device.type == "cpu" and backbone.model.config._attn_implementation == "sdpa":
            backbone.model.set_attn_implementation("lbm_grouped")
        self.backbone, self.tokenizer = backbone, backbone.tokenizer
        self.name = f"{backbone.name} ({backbone.revision}, {backbone.model.dtype})".replace("torch.", "")

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt."""
        start = time.perf_counter()
        model, tokenizer = self.backbone.model, self.tokenizer
        # The chat template has written the special tokens already.
        encoded = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        ids, mask, shared = _pad_behind_shared_beginning(encoded, tokenizer.pad_token_id)
        ids, mask = ids.to(model.device), mask.to(model.device)
        # Room for all tokens from the start on: a growing cache would copy all keys and values for every token.
        cache = StaticCache(config=model.config, max_cache_len=ids.shape[1] + sampling.max_new_tokens)
        self._read_prompts(cache, ids, mask, shared)
        _repeat(cache, n)
        drawn = sampling.temperature > 0
        how = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if drawn else {}
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=drawn,
            stop_strings=[sampling.stop] if sampling.stop else None,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            disable_compile=True,  # compiling takes longer than it saves
            repetition_penalty=1.0,  # some models bring their own; vLLM is told to leave it out, too
            **how,
        )
        answers = _Chances(answer_starts(tokenizer))
        with torch.random.fork_rng():  # generate() draws from the global generator; leave that as it was
            torch.manual_seed(seed)
            output = model.generate(
                ids.repeat_interleave(n, dim=0),
                attention_mask=mask.repeat_interleave(n, dim=0),
                past_key_values=cache,
                generation_config=config,
                tokenizer=tokenizer,
                logits_processor=LogitsProcessorList([answers]),
            )
        written = output[:, ids.shape[1] :].tolist()
        seconds = (time.perf_counter() - start) / len(written)
        texts = [
            replace(self._read(row, sampling.stop, seconds), chances=answers.of(row, k, tokenizer))
            for k, row in enumerate(written)
        ]
        return [texts[k : k + n] for k in range(0, len(texts), n)]

    def close(self) -> None:
        """Nothing to give back: other code may use the model."""

    def _read_prompts(self, cache: StaticCache, ids: Tensor, mask: Tensor, shared: int) -> None:
        """Keys and values of all tokens but each prompt's last, the shared beginning computed for one row only."""
        read, last = partial(self.backbone.model, past_key_values=cache, logits_to_keep=1), ids.shape[1] - 1
        if shared:
            read(ids[:1, :shared])
            _repeat(cache, len(ids))
        if last > shared:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:last]
            read(ids[:, shared:last], attention_mask=mask[:, :last], position_ids=positions)

    def _read(self, row: list[int], stop: str, seconds: float) -> Generation:
        ended = self.tokenizer.eos_token_id in row
        row = row[: row.index(self.tokenizer.eos_token_id)] if ended else row
        text = self.tokenizer.decode(row, skip_special_tokens=True)
        if not (stop and stop in text):
            return Generation(text, len(row), "stop" if ended else "length", seconds)
        # What follows the stop string in the row is padding, written while longer texts of the batch went on.
        tokens = len(row) - row.count(self.tokenizer.pad_token_id)
        return Generation(text[: text.index(stop) + len(stop)], tokens, "stop", seconds)


class _Chances(LogitsProcessor):
    """Keeps the chances of some tokens at every place, as they are before temperature and top-p."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens, self.places = tokens, list[Tensor]()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.places.append(scores.float().softmax(dim=-1)[:, self.tokens])
        return scores

    def of(self, written: list[int], row: int, tokenizer: Any) -> tuple[float, float, float] | None:
        """Of a row's answer."""
        place = answer_place(written, tokenizer)
        return None if place is None else normalised(self.places[place][row].tolist())


def _repeat(cache: StaticCache, times: int) -> None:
    """Every row of a cache so many times, side by side; transformers offers it for growing caches only."""
    layers: list[Any] = cache.layers
    for layer in layers:
        if layer.is_initialized:
            layer.keys = layer.keys.repeat_interleave(times, dim=0)
            layer.values = layer.values.repeat_interleave(times, dim=0)


def _pad_behind_shared_beginning(encoded: list[list[int]], pad: int) -> tuple[Tensor, Tensor, int]:
    """Token ids and mask (rows, tokens); the padding stands behind what all share, so that this is computed only once.

    The last token is left to generate(), which needs one to start from.
    """
    shared, longest = _shared_beginning([row[:-1] for row in encoded]), max(map(len, encoded))
    ids = [row[:shared] + [pad] * (longest - len(row)) + row[shared:] for row in encoded]
    mask = [[1] * shared + [0] * (longest - len(row)) + [1] * (len(row) - shared) for row in encoded]
    return torch.tensor(ids), torch.tensor(mask), shared


def _shared_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens in which all rows agree from the start on."""
    columns = zip(*rows, strict=False)
    return next((k for k, tokens in enumerate(columns) if len(set(tokens)) > 1), min(map(len, rows)))
