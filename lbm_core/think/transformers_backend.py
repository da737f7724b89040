"""Text generation with transformers, behind :func:`lbm_core.think.generate.generate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, GenerationConfig, StaticCache
from transformers.masking_utils import sdpa_mask

from lbm_core.act.backbone import Backbone
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Generation
from lbm_core.think.packing import shared_beginning


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Grouped-query attention without copying keys and values for each query head.

    transformers' own function copies them wherever there is a mask; on a CPU those copies cost ten times as much as
    the attention itself. Of one new token a row the query heads of a group are passed as if they were its tokens: they
    see the same keys, and the fused function is about four times as fast that way.
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
    """Generation with transformers: left-padded batches, the prompt computed once for its n samples.

    Parameters
    ----------
    backbone : instruction-tuned model; bfloat16 is about 2.5 times as fast as float32 on CPUs that know it
    batch_size : prompts per batch; batch_size * n texts are drawn at once
    """

    def __init__(self, backbone: Backbone, batch_size: int = 16) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if backbone.model.device.type == "cpu" and backbone.model.config._attn_implementation == "sdpa":
            backbone.model.set_attn_implementation("lbm_grouped")
        self.backbone, self.tokenizer, self.batch_size = backbone, backbone.tokenizer, batch_size
        self.name = f"{backbone.name} ({backbone.revision}, {backbone.model.dtype})".replace("torch.", "")

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt (:class:`Backend`)."""
        start = time.perf_counter()
        model, tokenizer = self.backbone.model, self.backbone.tokenizer
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
        with torch.random.fork_rng():  # generate() draws from the global generator; leave that as it was
            torch.manual_seed(seed)
            output = model.generate(
                ids.repeat_interleave(n, dim=0),
                attention_mask=mask.repeat_interleave(n, dim=0),
                past_key_values=cache,
                generation_config=config,
                tokenizer=tokenizer,
            )
        written = output[:, ids.shape[1] :].cpu()
        seconds = (time.perf_counter() - start) / len(written)
        texts = [self._read(row, sampling, seconds) for row in written]
        return [texts[k : k + n] for k in range(0, len(texts), n)]

    def close(self) -> None:
        """Nothing to give back: the model lies in this process's memory, and other code may use it."""

    def _read_prompts(self, cache: StaticCache, ids: Tensor, mask: Tensor, shared: int) -> None:
        """Keys and values of all tokens but each prompt's last, the shared beginning computed for one row only."""
        model, last = self.backbone.model, ids.shape[1] - 1
        if shared:
            model(ids[:1, :shared], past_key_values=cache, logits_to_keep=1)
            _repeat(cache, len(ids))
        if last > shared:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:last]
            rest = ids[:, shared:last]
            model(rest, attention_mask=mask[:, :last], position_ids=positions, past_key_values=cache, logits_to_keep=1)

    def _read(self, row: Tensor, sampling: Sampling, seconds: float) -> Generation:
        tokenizer = self.backbone.tokenizer
        ended = (row == tokenizer.eos_token_id).nonzero()
        if len(ended):
            row = row[: int(ended[0])]
        text = tokenizer.decode(row, skip_special_tokens=True)
        stopped = bool(sampling.stop) and sampling.stop in text
        if stopped:
            text = text[: text.index(sampling.stop) + len(sampling.stop)]
            # What follows the stop string in the row is padding, written while longer texts of the batch went on.
            row = row[row != tokenizer.pad_token_id]
        return Generation(text, len(row), "stop" if stopped or len(ended) else "length", seconds)


def _repeat(cache: StaticCache, times: int) -> None:
    """Every row of a cache so many times, side by side; transformers offers it for growing caches only."""
    layers: list[Any] = cache.layers
    for layer in layers:
        if layer.is_initialized:
            layer.keys = layer.keys.repeat_interleave(times, dim=0)
            layer.values = layer.values.repeat_interleave(times, dim=0)


def _pad_behind_shared_beginning(encoded: list[list[int]], pad: int) -> tuple[Tensor, Tensor, int]:
    """Batch of token ids (rows, tokens) and mask, with the padding between the beginning that all share and the rest.

    The instructions are the same in every prompt; with the padding behind them, they need to be computed only once.
    """
    # The last token is left to generate(), which needs one to start from.
    shared = shared_beginning([row[:-1] for row in encoded])
    longest = max(map(len, encoded))
    ids = [row[:shared] + [pad] * (longest - len(row)) + row[shared:] for row in encoded]
    mask = [[1] * shared + [0] * (longest - len(row)) + [1] * (len(row) - shared) for row in encoded]
    return torch.tensor(ids), torch.tensor(mask), shared
