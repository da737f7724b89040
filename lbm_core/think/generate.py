"""Sample chains of thought (Eq. 3): prompts in, n texts each out; seeded, stored, resumable.

:func:`generate` knows no model: it asks a :class:`Backend` (transformers runs everywhere, vLLM is faster, or a server).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from lbm_core.files import config_key
from lbm_core.seeding import integer_seed
from lbm_core.think.config import Sampling


@dataclass(frozen=True)
class Generation:
    """One sampled text."""

    text: str  # what the model wrote, without the prompt and without special tokens
    tokens: int  # number of tokens written
    finish: str  # "stop" where the model came to an end, "length" where the limit cut it off
    seconds: float  # wall time of its batch, divided by the batch's number of texts

    @property
    def truncated(self) -> bool:
        """Whether the length limit cut it off."""
        return self.finish == "length"


Group = Sequence[Generation]  # the texts of one prompt


class Backend(Protocol):
    """A language model that samples texts; :func:`lbm_core.think.backends.choose_backend` makes one by its name."""

    name: str  # model, revision and engine; part of what a stored text is known by
    batch_size: int  # prompts per call of ``sample``: what a killed run loses at most
    tokenizer: Any  # the model's, for :func:`lbm_core.think.prompt.render`

    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt; equal arguments give equal texts."""
        ...

    def close(self) -> None:
        """Give back what it holds outside this process: a worker, connections."""
        ...


def generate(
    prompts: Sequence[str],
    n: int,
    backend: Backend,
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    store: Path | None = None,
    progress: bool = True,
) -> list[list[Generation]]:
    """n chains of thought of every prompt, in the prompts' order.

    Prompts are cut into batches of similar length, each with its own seed, so that a resumed run draws the same texts
    as an uninterrupted one.

    Parameters
    ----------
    prompts : rendered prompts (:func:`lbm_core.think.prompt.render`)
    n : samples per prompt, >= 1; the paper's N (Eq. 13)
    seed : >= 0, of the stream "think"
    store : jsonl file with one text per line; texts found there (same model, parameters, seed and prompt) are read
        instead of generated, new ones are appended batch by batch

    Raises
    ------
    ValueError
        n < 1, or a store with a damaged line before its last one.
    """
    if n < 1:
        raise ValueError(f"need at least one sample per prompt; got n = {n}")
    sampling = sampling or Sampling()
    parameters = {"model": backend.name, **asdict(sampling), "n": n, "seed": seed}
    keys = _keys(prompts, parameters)
    known = _read_store(store) if store else {}
    order = sorted(range(len(prompts)), key=lambda k: (-len(prompts[k]), keys[k]))
    batches = [order[start : start + backend.batch_size] for start in range(0, len(order), backend.batch_size)]
    whole = [key for key in keys if len(known.get(key, ())) == n]  # a group that was cut is written again
    results = {key: [known[key][sample] for sample in range(n)] for key in whole}
    with tqdm(total=len(prompts), desc="chains of thought", unit="prompt", disable=not progress) as bar:
        for batch in batches:
            if any(keys[k] not in results for k in batch):
                batch_seed = integer_seed(seed, "think", int(config_key([keys[k] for k in batch]), 16))
                texts = backend.sample([prompts[k] for k in batch], n, sampling, batch_seed)
                new = {keys[k]: group for k, group in zip(batch, texts, strict=True) if keys[k] not in results}
                if store:
                    _append(store, new, {keys[k]: prompts[k] for k in batch}, parameters)
                results.update(new)
            bar.update(len(batch))
    return [results[key] for key in keys]


def _keys(prompts: Sequence[str], parameters: dict[str, Any]) -> list[str]:
    """One key per prompt; a prompt that occurs twice gets two keys, hence independent samples."""
    seen: dict[str, int] = {}
    keys = []
    for prompt in prompts:
        seen[prompt] = seen.get(prompt, -1) + 1
        keys.append(config_key([parameters, prompt, seen[prompt]]))
    return keys


def _read_store(store: Path) -> dict[str, dict[int, Generation]]:
    """Texts by key and sample; the half line that a killed run leaves at the end is cut off the file."""
    if not store.is_file():
        return {}
    content = store.read_bytes()
    whole, _, rest = content.rpartition(b"\n")
    if rest:
        with store.open("r+b") as file:
            file.truncate(len(content) - len(rest))
    groups: dict[str, dict[int, Generation]] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            text = Generation(row["text"], row["tokens"], row["finish"], row["seconds"])
            groups.setdefault(row["key"], {})[row["sample"]] = text
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {store} is damaged; delete the file to generate its texts anew"
            ) from error
    return groups


def _append(store: Path, groups: Mapping[str, Group], prompts: dict[str, str], parameters: dict[str, Any]) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a", encoding="utf-8") as file:
        for key, group in groups.items():
            prompt_hash = hashlib.sha256(prompts[key].encode()).hexdigest()[:16]
            for sample, text in enumerate(group):
                row = {"key": key, "sample": sample, "prompt_sha256": prompt_hash, **asdict(text), **parameters}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
