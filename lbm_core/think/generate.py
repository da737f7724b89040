"""Sample chains of thought (Eq. 3): prompts in, n texts each out; seeded, stored, resumable.

:func:`generate` knows no model: it asks a :class:`Backend` (transformers runs everywhere, vLLM is faster, or a server).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from tqdm.auto import tqdm

from lbm_core.files import alone, config_key, told
from lbm_core.seeding import integer_seed
from lbm_core.think.config import Sampling


@dataclass(frozen=True)
class Generation:
    """One sampled text."""

    text: str  # what the model wrote, without the prompt and without special tokens
    tokens: int  # number of tokens written
    finish: str  # "stop" where the model came to an end, "length" where the limit cut it off
    seconds: float  # wall time of its batch, divided by the batch's number of texts
    # Chances of -1, 0 and 1 where its first answer begins, at temperature 1; None where there is no such place, or the
    # backend does not tell
    chances: tuple[float, float, float] | None = None

    @property
    def truncated(self) -> bool:
        """Whether the length limit cut it off."""
        return self.finish == "length"


Group = Sequence[Generation]  # the texts of one prompt


class Backend(Protocol):
    """A language model that samples texts (:func:`lbm_core.think.backends.choose_backend`)."""

    name: str  # model, revision and engine; part of what a stored text is known by
    batch_size: int  # prompts per call of ``sample``: what a killed run loses at most
    tokenizer: Any  # the model's, for :func:`lbm_core.think.prompt.render`

    def sample(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[Generation]]:
        """n texts of each prompt; equal arguments give equal texts."""

    def close(self) -> None:
        """Give back what it holds outside this process: a worker, connections."""


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
    """n >= 1 chains of thought of every prompt (the paper's N, Eq. 13), in the prompts' order.

    Batches are of similar length, each with its own seed: a resumed run draws the same texts as an uninterrupted one.
    Prompts are rendered (:func:`lbm_core.think.prompt.render`). ``store`` is a jsonl file with one text per line; texts
    found there (same model, parameters, seed and prompt) are read instead of generated, new ones are appended batch by
    batch; ValueError: a damaged line, unless it is another prompt's.
    """
    if n < 1:
        raise ValueError(f"need at least one sample per prompt; got n = {n}")
    sampling = sampling or Sampling()
    parameters = {"model": backend.name, **asdict(sampling), "n": n, "seed": seed}
    series = pd.Series(prompts, dtype=object)
    again = series.groupby(series, sort=False).cumcount()  # a prompt that occurs twice gets independent texts
    keys = [config_key([parameters, *pair]) for pair in zip(prompts, again.tolist(), strict=True)]
    known = _read_store(store, set(keys)) if store else {}
    order = sorted(range(len(prompts)), key=lambda k: (-len(prompts[k]), keys[k]))
    # A group that was cut is written again.
    results = {key: [known[key][sample] for sample in range(n)] for key in keys if len(known.get(key, ())) == n}
    with tqdm(total=len(prompts), desc="chains of thought", unit="prompt", disable=not progress) as bar:
        for start in range(0, len(order), backend.batch_size):
            batch = order[start : start + backend.batch_size]
            if any(keys[k] not in results for k in batch):
                batch_seed = integer_seed(seed, "think", int(config_key([keys[k] for k in batch]), 16))
                texts = backend.sample([prompts[k] for k in batch], n, sampling, batch_seed)
                new = {keys[k]: group for k, group in zip(batch, texts, strict=True) if keys[k] not in results}
                if store:
                    _append(store, new, parameters)
                results.update(new)
            bar.update(len(batch))
    return [results[key] for key in keys]


def answer_starts(tokenizer: Any) -> list[int]:
    """Ids of the tokens with which the answers -1, 0 and 1 begin."""
    return [tokenizer(start, add_special_tokens=False)["input_ids"][0] for start in ("-", "0", "1")]


def answer_place(tokens: Sequence[int], tokenizer: Any) -> int | None:
    """Place of the token behind the first "<answer>"; None where there is none."""
    text = ""
    for place, token in enumerate(tokens[:-1], 1):
        text += tokenizer.decode([token])
        if text.endswith("<answer>"):
            return place
    return None


def normalised(chances: Sequence[float]) -> tuple[float, float, float] | None:
    """Chances of the three answers that sum to 1; None where none of them is possible."""
    down, same, up = chances
    total = down + same + up
    return (down / total, same / total, up / total) if total > 0 else None


def _read_store(store: Path, keys: set[str]) -> dict[str, dict[int, Generation]]:
    """Texts of some keys, by key and sample; a half line at the end is a killed run's, or one that is being written."""
    whole = store.read_bytes().rpartition(b"\n")[0] if store.is_file() else b""
    groups: dict[str, dict[int, Generation]] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        if line.startswith(b'{"key": "') and line.split(b'"', 4)[3].decode(errors="replace") not in keys:
            continue  # another prompt's: a store of days holds 100,000 lines, and is read at every tick
        try:
            row = json.loads(line)
            chances = row.get("chances")
            text = Generation(row["text"], row["tokens"], row["finish"], row["seconds"], chances and tuple(chances))
            groups.setdefault(row["key"], {})[row["sample"]] = text
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} of {store} is damaged; delete it to generate its texts anew") from error
    return groups


def _append(store: Path, groups: Mapping[str, Group], parameters: dict[str, Any]) -> None:
    texts = [{"key": key, "sample": k, **asdict(text)} for key, group in groups.items() for k, text in enumerate(group)]
    lines = "".join(json.dumps(text | parameters, ensure_ascii=False) + "\n" for text in texts).encode()
    with alone(store), told(store), store.open("ab") as file:
        if file.tell() and not store.read_bytes().endswith(b"\n"):  # half a line, of a run that was killed
            os.truncate(store, store.read_bytes().rfind(b"\n") + 1)
        file.write(lines)
