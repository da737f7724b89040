"""A whole day in one sequence: every decision of a day from one forward pass, each under its own guide (§3.2).

A guide sentence depends on nothing before it, and of a day's numbers only (R_t, s_t) of the tick to decide may read
it. So the sentences are encoded once for all decisions, the day's 48 (R, s, a) once with a window that slides, and each
tick gets a *fork*: a second copy of (R_t, s_t) that reads its own guide and the ticks before, and gives the action.

Differs from the paper (and from ``layout="window"``): there the newest guide stands before all ticks of the window, so
that older ticks read it, too, and each layer sees the same ten ticks; here a layer sees ten ticks back, so that several
layers see further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from lbm_core.act.dual_embedding import ITEMS, ActBatch, LBMAct
from lbm_core.act.guides import FIRST, SENTENCES, TASK_DESCRIPTION, directions
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.windows import Windows

CODES = (SENTENCES[0], SENTENCES[1], SENTENCES[-1], FIRST)  # guide sentences by their code
_MEANING = (0.0, 1.0, -1.0, 0.0)  # direction of each code
_WORD, _PAST, _FORK = 0, 1, 2  # kinds of positions


def codes_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """Codes of guide sentences.

    Raises
    ------
    ValueError
        A text that is none of them: only :data:`CODES` share their keys.
    """
    directions(texts)
    return np.array([CODES.index(text) for text in texts], dtype=np.int64)


@dataclass(frozen=True)
class Positions:
    """Positions of n days as the transformer reads them.

    Attributes
    ----------
    z : (n, S, H) embedded
    sees : (n, 1, S, S) bool, what each position (row) may read
    positions : (n, S) int
    """

    z: Tensor
    sees: Tensor
    positions: Tensor

    def blocked(self) -> Tensor:
        """(n, 1, S, S) what is added to attention's scores."""
        scores = torch.zeros(self.sees.shape, dtype=self.z.dtype, device=self.z.device)
        return scores.masked_fill_(~self.sees, torch.finfo(self.z.dtype).min)


class DayLayout:
    """Which position of a day's sequence sees which: guides, then (R, s, a) of each tick, then forked (R, s).

    Parameters
    ----------
    model : LBMAct
    ticks : length of the days, 48 or that of a day so far
    forks : ticks (from 0) whose decision is wanted; default all
    """

    def __init__(self, model: LBMAct, ticks: int = N_TICKS, forks: Sequence[int] | None = None) -> None:
        guide = model.config.guide
        self.model, self.ticks, self.window = model, ticks, model.config.window_length
        self.decided = np.arange(ticks) if forks is None else np.asarray(forks)
        # LLM-DT and Prompt-LLM-DT read nothing that differs from decision to decision.
        self.forked = guide in ("sentence", "number")
        count, words = self.guide_ids.shape
        kind, guide_of, tick, item = [], [], [], []
        for number in range(count):
            kind += [_WORD] * words
            guide_of += [number] * words
            tick += [-1] * words
            item += list(range(words))
        kind += [_PAST] * (3 * ticks)
        tick += np.repeat(np.arange(ticks), 3).tolist()
        item += np.tile(np.arange(3), ticks).tolist()
        if self.forked:
            kind += [_FORK] * (2 * len(self.decided))
            tick += np.repeat(self.decided, 2).tolist()
            item += np.tile(np.arange(2), len(self.decided)).tolist()
        self.kind, self.tick, self.item = np.array(kind), np.array(tick), np.array(item)
        self.guide = np.array(guide_of + [-1] * (len(kind) - len(guide_of)))

    @cached_property
    def guide_ids(self) -> Tensor:
        """(K, G) tokens of the guides that all decisions share; (0, 0) for models that read no words."""
        texts = {"sentence": CODES, "task": (TASK_DESCRIPTION,)}.get(self.model.config.guide, ())
        device = self.model.embed_time.weight.device
        if not texts:
            return torch.empty((0, 0), dtype=torch.long, device=device)
        ids, real = self.model.tokenize(texts)
        if not real.all():
            raise ValueError("guides that share their keys must have as many tokens each")
        return ids.to(device)

    @cached_property
    def sees(self) -> NDArray[np.bool_]:
        """(S, S) what a position (row) may read whatever the guides are."""
        own = (self.kind, self.tick, self.item, self.guide)
        return sees(self.model, own, own)

    def sequence(self, batch: ActBatch, codes: Tensor | None = None) -> Positions:
        """The sequence of n days.

        Parameters
        ----------
        batch : n days of T ticks, without guides; left-padded where a day is younger
        codes : (n, T) code (:data:`CODES`) of every tick's guide; None for models without
        """
        embedded, device = items(self.model, batch), batch.states.device
        parts = [embedded.flatten(1, 2)]
        if self.forked:
            told = None if codes is None or len(self.guide_ids) else torch.tensor(_MEANING, device=device)[codes]
            again = embedded if told is None else items(self.model, batch, told)
            parts.append(again[:, torch.as_tensor(self.decided, device=device), :2].flatten(1, 2))
        if len(self.guide_ids):
            words = self.model.token_embedding(self.guide_ids.reshape(-1)).to(embedded.dtype)
            parts.insert(0, words.expand(len(embedded), -1, -1))
        kind, tick = (torch.as_tensor(values, device=device) for values in (self.kind, self.tick.clip(min=0)))
        exists = (kind == _WORD) | batch.mask[:, tick]
        seen = torch.as_tensor(self.sees, device=device)[None] & exists[:, None, :]
        if codes is not None and len(self.guide_ids):
            own = codes[:, tick][:, :, None] == torch.as_tensor(self.guide, device=device)
            seen = seen | (own & (kind == _FORK)[None, :, None] & (kind == _WORD)[None, None])
        seen = seen | torch.eye(len(kind), dtype=torch.bool, device=device)  # pads read themselves: 0 / 0 else
        item = torch.as_tensor(self.item, device=device)
        behind = self.guide_ids.shape[1] + 3 * batch.timesteps[:, tick] + item
        return Positions(torch.cat(parts, dim=1), seen[:, None], torch.where(kind == _WORD, item, behind))

    def predict(self, batch: ActBatch, codes: Tensor | None = None) -> Tensor:
        """(n, D) predicted log(alpha / C) of the decided ticks; arguments as of :meth:`sequence`."""
        built = self.sequence(batch, codes)
        hidden = self.model.transformer(
            inputs_embeds=built.z,
            attention_mask=built.blocked(),
            position_ids=built.positions,
            use_cache=False,
        ).last_hidden_state
        decided = torch.as_tensor(self.decided, device=hidden.device)
        return self.model.move(hidden[:, self.states()], batch.previous_actions[:, decided])

    def states(self) -> NDArray[np.int64]:
        """(D,) positions from which the actions are read."""
        wanted = self.kind == (_FORK if self.forked else _PAST)
        return np.flatnonzero(wanted & (self.item == ITEMS.index("state")) & np.isin(self.tick, self.decided))


class DayNetwork(nn.Module):
    """LBM-Act as it learns from whole days: a module of its own, so that engines of training can wrap it.

    Parameters
    ----------
    model : LBMAct with ``layout="day"``
    """

    def __init__(self, model: LBMAct) -> None:
        super().__init__()
        self.model, self.layout = model, DayLayout(model)

    def forward(self, batch: ActBatch) -> Tensor:
        """(n, 48) predicted log(alpha / C) at every tick of n whole days."""
        return self.layout.predict(batch, batch.codes)


def sees(model: LBMAct, mine: Sequence[NDArray], other: Sequence[NDArray]) -> NDArray[np.bool_]:
    """What positions (rows) may read of others, each given as arrays of kind, tick, item and guide."""
    (kind, tick, item, guide), (kinds, ticks, item_of, guides) = (
        [values[:, None] for values in mine],
        [values[None] for values in other],
    )
    recent = (ticks <= tick) & (ticks > tick - model.config.window_length)
    not_later = (ticks < tick) | (item_of <= item)
    words = (kind == _WORD) & (kinds == _WORD) & (guide == guides) & (item_of <= item)
    past = (kind == _PAST) & (kinds == _PAST) & recent & not_later
    fork = (kind == _FORK) & (kinds == _PAST) & recent & (ticks < tick)
    itself = (kind == _FORK) & (kinds == _FORK) & (ticks == tick) & (item_of <= item)
    task = (kind == _PAST) & (kinds == _WORD) & (model.config.guide == "task")
    return words | past | fork | itself | task


def items(model: LBMAct, batch: ActBatch, told: Tensor | None = None) -> Tensor:
    """(n, T, 3, H) embedded return, state and action of every tick; ``told`` are (n, T) directions as numbers."""
    states = batch.states
    if model.config.guide == "number":
        channel = torch.zeros_like(states[..., :1]) if told is None else told[..., None].to(states.dtype)
        states = torch.cat([states, channel], dim=-1)
    embedded = [
        model.embed_return(batch.returns_to_go[..., None]),
        model.embed_state(states),
        model.embed_action(batch.actions[..., None]),
    ]
    return torch.stack(embedded, dim=2) + model.embed_time(batch.timesteps)[:, :, None]


def decide_day(model: LBMAct, window: Windows, guides: Sequence[str] | None) -> Tensor:
    """(n,) predicted log(alpha / C) at the last tick of n windows that reach back to the day's start."""
    if (window.mask[:, 0] & (window.timesteps[:, 0] > 0)).any():
        raise ValueError("an LBM-Act with layout 'day' reads the day from its start: cut windows of 48 ticks")
    length = window.mask.shape[1]
    layout, codes = DayLayout(model, length, [length - 1]), None
    if guides is not None:
        last = torch.as_tensor(codes_of(guides), device=model.embed_time.weight.device)
        codes = last[:, None].expand(-1, length)
    return layout.predict(model.numbers(window), codes)[:, 0]


class RunningDay:
    """Decisions of a running day: the keys of guides and past ticks are kept, a decision reads five new positions.

    Same decisions as :func:`decide_day` up to rounding.

    Parameters
    ----------
    model : LBMAct trained with ``layout="day"``, in ``eval()`` mode; its weights must not change while this is in use
    """

    def __init__(self, model: LBMAct) -> None:
        self.model, self.layout = model, DayLayout(model, 1, [0])
        self._cache, self._done, self._n = DynamicCache(), 0, 0  # ticks whose (R, s, a) are kept, of n days

    @torch.inference_mode()
    def decide(self, window: Windows, guides: Sequence[str] | None) -> Tensor:
        """(n,) predicted log(alpha / C).

        Parameters
        ----------
        window : n windows of tick + 1 ticks, the day so far
        guides : n sentences; None for models without
        """
        tick, n = window.mask.shape[1] - 1, len(window)
        if n != self._n or tick < self._done or tick == 0:
            self._start(n)
        first, whole = self._done, self.model.numbers(window)
        names = ("returns_to_go", "states", "actions", "previous_actions", "timesteps")
        batch = replace(whole, **{name: getattr(whole, name)[:, first:] for name in names})  # what is not kept yet
        device, words = batch.states.device, self.layout.guide_ids.numel()
        codes = None if guides is None else torch.as_tensor(codes_of(guides), device=device)
        z = items(self.model, batch).flatten(1, 2)[:, :-1]
        new_tick, item = np.repeat(np.arange(first, tick + 1), 3)[:-1], np.tile(np.arange(3), tick + 1 - first)[:-1]
        kind = np.full(len(new_tick), _PAST)
        if self.layout.forked:
            told = None
            if codes is not None and not words:
                told = torch.tensor(_MEANING, device=device)[codes][:, None].expand(-1, tick + 1 - first)
            z = torch.cat([z, items(self.model, batch, told)[:, -1, :2]], dim=1)
            new_tick, item = np.append(new_tick, [tick, tick]), np.append(item, [0, 1])
            kind = np.append(kind, [_FORK, _FORK])
        kept = (np.full(3 * first, _PAST), np.repeat(np.arange(first), 3), np.tile(np.arange(3), first))
        mine = (kind, new_tick, item)
        other = tuple(np.append(a, b) for a, b in zip(kept, mine, strict=True))
        none = np.full(len(other[0]), -1)
        seen = torch.as_tensor(sees(self.model, (*mine, none[: len(kind)]), (*other, none)), device=device)
        seen = seen.expand(n, -1, -1)
        if words:
            read = torch.zeros((n, len(kind), words), dtype=torch.bool, device=device)
            if codes is None:
                read[:] = True
            else:
                own = codes[:, None] == torch.as_tensor(self.layout.guide[:words], device=device)
                read[:, torch.as_tensor(kind == _FORK, device=device)] = own[:, None]
            seen = torch.cat([read, seen], dim=2)
        places = torch.as_tensor(self.layout.guide_ids.shape[1] + 3 * new_tick + item, device=device).expand(n, -1)
        hidden = self._pass(Positions(z, seen[:, None], places))
        self._cache.crop(3 * (tick - first) - len(kind))  # (R, s) of this tick come again with its action, forks never
        self._done = tick
        return self.model.move(hidden[:, -1], batch.previous_actions[:, -1])

    def _start(self, n: int) -> None:
        self._cache, self._done, self._n = DynamicCache(), 0, n
        count = self.layout.guide_ids.numel()
        if count:
            words = self.model.token_embedding(self.layout.guide_ids.reshape(-1)).expand(n, -1, -1)
            seen = torch.as_tensor(self.layout.sees[:count, :count], device=words.device).expand(n, 1, -1, -1)
            places = torch.as_tensor(self.layout.item[:count], device=words.device).expand(n, -1)
            self._pass(Positions(words, seen, places))

    def _pass(self, new: Positions) -> Tensor:
        return self.model.transformer(
            inputs_embeds=new.z,
            attention_mask=new.blocked(),
            position_ids=new.positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
