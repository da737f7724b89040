"""A whole day in one sequence: every decision of a day from one forward pass, each under its own guide (§3.2).

A guide sentence depends on nothing before it, and of a day's numbers only (R_t, s_t) of the tick to decide may read
it. So the sentences are encoded once for all decisions, the day's 48 (R, s, a) once with a window that slides, and each
tick gets a *fork*: a second copy of (R_t, s_t) that reads its own guide and the ticks before, and gives the action.

Differs from the paper (and from ``layout="window"``): there the newest guide stands before all ticks of the window, so
that older ticks read it, too, and each layer sees the same ten ticks; here a layer sees ten ticks back, so that several
layers see further.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from lbm_core.act.dual_embedding import ITEMS, ActBatch, LBMAct
from lbm_core.act.guides import FIRST, SENTENCES, TASK_DESCRIPTION, directions
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.windows import Windows

CODES = (SENTENCES[0], SENTENCES[1], SENTENCES[-1], FIRST)  # guide sentences by their code
_MEANING = (0.0, 1.0, -1.0, 0.0)  # direction of each code
_WORD, _PAST, _FORK = 0, 1, 2  # kinds of positions


def codes_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """Codes of guide sentences; ValueError for any other text, because only :data:`CODES` share their keys."""
    directions(texts)
    return np.array([CODES.index(text) for text in texts], dtype=np.int64)


class DayLayout:
    """Which position of a day's sequence sees which: guides, then (R, s, a) of each tick, then forked (R, s).

    The last tick's action, which nobody reads, is left out. The day has 48 ticks or, while it runs, fewer; ``forks``
    are the ticks (from 0) whose decision is wanted, by default all.
    """

    def __init__(self, model: LBMAct, ticks: int = N_TICKS, forks: Sequence[int] | None = None) -> None:
        self.model = model
        self.decided = np.arange(ticks) if forks is None else np.asarray(forks)
        # LLM-DT and Prompt-LLM-DT read nothing that differs from decision to decision.
        self.forked = model.config.guide in ("sentence", "number")
        forked = self.decided if self.forked else self.decided[:0]
        count, words = self.guide_ids.shape
        self.kind = np.repeat([_WORD, _PAST, _FORK], [count * words, 3 * ticks - 1, 2 * len(forked)])
        nowhen, past = np.full(count * words, -1), np.repeat(np.arange(ticks), 3)[:-1]
        self.tick = np.concatenate([nowhen, past, np.repeat(forked, 2)])
        order = [
            np.tile(np.arange(words), count),
            np.tile(np.arange(3), ticks)[:-1],
            np.tile(np.arange(2), len(forked)),
        ]
        self.item = np.concatenate(order)
        self.guide = np.full(len(self.kind), -1)
        self.guide[: count * words] = np.repeat(np.arange(count), words)

    @cached_property
    def _guides(self) -> tuple[Tensor, Tensor]:
        texts = {"sentence": CODES, "task": (TASK_DESCRIPTION,)}.get(self.model.config.guide, ())
        if not texts:
            return torch.empty((0, 0), dtype=torch.long), torch.empty((0, 0), dtype=torch.bool)
        return self.model.tokenize(texts)

    @property
    def guide_ids(self) -> Tensor:
        """(K, G) tokens of the guides that all decisions share, padded on the left; (0, 0) where no words are read."""
        return self._guides[0].to(self.model.embed_time.weight.device)

    @cached_property
    def sees(self) -> NDArray[np.bool_]:
        """(S, S) what a position (row) may read whatever the guides are."""
        kind, tick, item, guide = (own[:, None] for own in (self.kind, self.tick, self.item, self.guide))
        word, past, fork = (self.kind == which for which in (_WORD, _PAST, _FORK))
        recent = (self.tick <= tick) & (self.tick > tick - self.model.config.window_length)
        not_later = (self.tick < tick) | (self.item <= item)
        words = (kind == _WORD) & word & (guide == self.guide) & (self.item <= item)
        before = (kind == _PAST) & past & recent & not_later
        behind_fork = (kind == _FORK) & past & recent & (self.tick < tick)
        itself = (kind == _FORK) & fork & (self.tick == tick) & (self.item <= item)
        task = (kind == _PAST) & word & (self.model.config.guide == "task")
        return words | before | behind_fork | itself | task

    def sequence(self, batch: ActBatch, since: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """The sequence of n days of T ticks, left-padded where a day is younger, embedded from tick ``since`` on.

        (n, S, H) embedded; (n, S, S) bool, what each position (row) may read; (n, S) places that the transformer
        counts.
        """
        codes, device = batch.codes, batch.states.device
        names = ("returns_to_go", "states", "actions", "timesteps")
        new = replace(batch, **{name: getattr(batch, name)[:, since:] for name in names})
        embedded = functional.pad(self.model.items(new), (0, 0, 0, 0, since, 0))
        parts = [embedded.flatten(1, 2)[:, :-1]]
        if self.forked:
            again = embedded
            if codes is not None and not len(self.guide_ids):
                signs = torch.tensor(_MEANING, device=device)[codes[:, since:]]
                again = functional.pad(self.model.items(new, signs), (0, 0, 0, 0, since, 0))
            parts.append(again[:, torch.as_tensor(self.decided, device=device), :2].flatten(1, 2))
        if len(self.guide_ids):
            words = self.model.token_embedding(self.guide_ids.reshape(-1)).to(embedded.dtype)
            parts.insert(0, words.expand(len(embedded), -1, -1))
        columns = (self.kind, self.tick.clip(min=0), self.item)
        kind, tick, item = (torch.as_tensor(values, device=device) for values in columns)
        real = functional.pad(self._guides[1].reshape(-1), (0, len(self.kind) - self.guide_ids.numel())).to(device)
        exists = torch.where(kind == _WORD, real, batch.mask[:, tick])
        seen = torch.as_tensor(self.sees, device=device)[None] & exists[:, None, :]
        if codes is not None and len(self.guide_ids):
            own = codes[:, tick][:, :, None] == torch.as_tensor(self.guide, device=device)
            seen = seen | (own & (kind == _FORK)[None, :, None] & (kind == _WORD) & real)
        seen = seen | torch.eye(len(kind), dtype=torch.bool, device=device)  # pads read themselves: 0 / 0 else
        behind = self.guide_ids.shape[1] + 3 * batch.timesteps[:, tick] + item
        return torch.cat(parts, dim=1), seen, torch.where(kind == _WORD, item, behind)

    def predict(self, batch: ActBatch, cache: DynamicCache | None = None) -> Tensor:
        """(n, D) predicted log(alpha / C) of the decided ticks.

        ``cache`` holds keys and values of the sequence's beginning, not read again, and takes those of the rest.
        """
        kept = 0 if cache is None else cache.get_seq_length()
        given = self.inputs(batch, kept)
        hidden = self.model.transformer(**given, past_key_values=cache, use_cache=cache is not None).last_hidden_state
        decided = torch.as_tensor(self.decided, device=hidden.device)
        return self.model.move(hidden[:, self.deciding - kept], batch.previous_actions[:, decided])

    def inputs(self, batch: ActBatch, kept: int = 0) -> dict[str, Tensor]:
        """What the transformer reads of n days behind the first ``kept`` positions: embedded, mask and places."""
        since = int(self.tick[kept:][self.kind[kept:] == _PAST].min())
        z, seen, places = (whole[:, kept:] for whole in self.sequence(batch, since))
        blocked = torch.zeros(seen.shape, dtype=z.dtype, device=z.device)
        mask = blocked.masked_fill_(~seen, torch.finfo(z.dtype).min)[:, None]
        return {"inputs_embeds": z, "attention_mask": mask, "position_ids": places}

    @property
    def deciding(self) -> NDArray[np.int64]:
        """Positions of the states from which the decided ticks' actions are read."""
        states = (self.kind == (_FORK if self.forked else _PAST)) & (self.item == ITEMS.index("state"))
        return np.flatnonzero(states & np.isin(self.tick, self.decided))

    @property
    def words(self) -> NDArray[np.bool_]:
        """(S,) which positions are words of a guide."""
        return self.kind == _WORD


class DayNetwork(nn.Module):
    """LBM-Act as it learns from whole days: a module of its own, so that engines of training can wrap it."""

    def __init__(self, model: LBMAct) -> None:
        super().__init__()
        self.model, self.layout = model, DayLayout(model)

    def forward(self, batch: ActBatch) -> Tensor:
        """(n, 48) predicted log(alpha / C) at every tick of n whole days."""
        return self.layout.predict(batch)


def decide_day(
    model: LBMAct, window: Windows, guides: Sequence[str] | None, cache: DynamicCache | None = None
) -> Tensor:
    """(n,) predicted log(alpha / C) at the last tick of n windows that reach back to the day's start (else ValueError).

    Guides are n sentences, None for models without; the cache is that of :meth:`DayLayout.predict`.
    """
    layout, batch = running_day(model, window, guides)
    return layout.predict(batch, cache)[:, 0]


def running_day(model: LBMAct, window: Windows, guides: Sequence[str] | None) -> tuple[DayLayout, ActBatch]:
    """Layout and tensors of the decision at the last tick of n windows; see :func:`decide_day`."""
    if (window.mask[:, 0] & (window.timesteps[:, 0] > 0)).any():
        raise ValueError("an LBM-Act with layout 'day' reads the day from its start: cut windows of 48 ticks")
    length = window.mask.shape[1]
    codes = None if guides is None else np.repeat(codes_of(guides)[:, None], length, axis=1)
    return DayLayout(model, length, [length - 1]), model.batch(window, codes)


class RunningDay:
    """Decisions of a running day: the keys of guides and past ticks are kept, a decision reads a few new positions.

    Same decisions as :func:`decide_day` up to rounding. The model, trained with ``layout="day"`` and in ``eval()``
    mode, must not change while this is in use.
    """

    def __init__(self, model: LBMAct) -> None:
        self.model, self._words = model, DayLayout(model, 1).guide_ids.numel()
        self._cache, self._done, self._n = DynamicCache(), -1, 0  # the last tick decided, of n days

    @torch.inference_mode()
    def decide(self, window: Windows, guides: Sequence[str] | None) -> Tensor:
        """(n,) predicted log(alpha / C) of n windows of tick + 1 ticks, the day so far, and n guides or None."""
        tick, n = window.mask.shape[1] - 1, len(window)
        if n != self._n or tick <= self._done:
            self._cache = DynamicCache()
        predicted = decide_day(self.model, window, guides, self._cache)
        self._done, self._n = tick, n
        # (R, s) of this tick stay, their action comes with the next; forks never come again.
        if passing := self._cache.get_seq_length() - (self._words + 3 * tick + 2):
            self._cache.crop(-passing)
        return predicted
