"""Decisions of LBM-Act for many advertisers at once, and the bidder that makes them (Eq. 4, Fig. 4)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lbm_core.act.config import GUIDED
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import FIRST, SENTENCES, UNCERTAIN, ExpectedMove, GuideSource, uninstructed
from lbm_core.act.whole_days import RunningDay, decide_day
from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.data.features import log_alpha_ratio
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.data.windows import Windows, windows_of_observation

DAYS_AT_ONCE = 32  # days of about the same age, so that little padding is read


def decide(
    model: LBMAct,
    window: Windows,
    guides: Sequence[str] | None = None,
    *,
    guide_scale: float | None = None,
    leak: float | None = None,
    running: RunningDay | None = None,
) -> NDArray[np.float64]:
    """The action of LBM-Act (Eq. 4): (n,) alpha, currency per conversion, within the range of the data.

    One forward pass for n windows, whose last alpha is not read, and n guides (None for LLM-DT and Prompt-LLM-DT). With
    x = log(alpha / C), x_t = (1 - leak) x_{t-1} + scale * (predicted move), less the model's ``offset`` where nobody
    instructed.

    Parameters
    ----------
    guide_scale : factor on the predicted move of log alpha where a guide names a direction (any text but
        :data:`~lbm_core.act.guides.UNCERTAIN` and :data:`~lbm_core.act.guides.FIRST`); default the config's
    leak : share of the last log(alpha / C) that is let go; default the config's
    running : of this model with layout "day", so that what is known of the day is not read again; same up to rounding
    """
    scale = model.config.guide_scale if guide_scale is None else guide_scale
    leak = model.config.leak if leak is None else leak
    with torch.inference_mode():
        if running is not None:
            ratios = running.decide(window, guides)
        elif model.config.layout == "day":
            ratios = _decide_days(model, window, guides)
        else:
            seen = window.last(min(model.config.window_length, window.mask.shape[1]))
            ratios = model(model.batch(seen, guides))[:, -1]
        predicted = ratios.double().cpu().numpy()
    last = log_alpha_ratio(window.previous_alphas[:, -1, 0], window.cpa_target).astype(np.float64)
    if guides is not None and scale != 1.0:
        instructed = np.array([text not in (UNCERTAIN, FIRST) for text in guides])
        predicted = np.where(instructed, last + scale * (predicted - last), predicted)
    free = True if guides is None else np.array([text == UNCERTAIN for text in guides])
    predicted -= leak * last + np.where(free, model.offset, 0.0)
    return np.clip(np.exp(predicted) * window.cpa_target, 0.0, ALPHA_LIMIT[model.config.dataset])


def _decide_days(model: LBMAct, window: Windows, guides: Sequence[str] | None) -> torch.Tensor:
    """:func:`lbm_core.act.whole_days.decide_day` of any number of days, the young apart from the old."""
    ticks, predicted = window.timesteps[:, -1], torch.empty(len(window))
    order = np.argsort(ticks, kind="stable")
    for start in range(0, len(order), DAYS_AT_ONCE):
        part = order[start : start + DAYS_AT_ONCE]
        day = window[part].last(min(ticks[part].max() + 1, window.mask.shape[1]))
        predicted[part] = decide_day(model, day, guides and [guides[k] for k in part]).float().cpu()
    return predicted


class LBMActBidder:
    """Bids with LBM-Act (or LLM-DT, Prompt-LLM-DT), led by a source of guides.

    The first bid of the day is the CPA target, as in the authors' release; unlike there it enters the history. The
    return-to-go starts at ``target_return`` B / C and falls with every conversion.

    Parameters
    ----------
    guide_source : texts for the advertisers at each tick after the first, e.g. LBM-Think; default "uncertain" for
        everyone; an :class:`~lbm_core.act.guides.ExpectedMove`; a model without guides takes none
    target_return : > 0, first return-to-go in units of B / C; default the config's
    guide_scale : > 0, see :func:`decide`; default the config's
    leak : in [0, 1], see :func:`decide`; default the config's
    """

    def __init__(
        self,
        model: LBMAct,
        guide_source: GuideSource | ExpectedMove | None = None,
        target_return: float | None = None,
        *,
        guide_scale: float | None = None,
        leak: float | None = None,
    ) -> None:
        guided = model.config.guide in GUIDED
        if guide_source is not None and not guided:
            raise ValueError(f"{model.config.method} takes no guides")
        self.model = model
        self.guide_source = (guide_source or uninstructed) if guided else None
        self.target_return = model.config.target_return if target_return is None else target_return
        if not self.target_return > 0:
            raise ValueError(f"target_return must be positive; got {self.target_return}")
        self.guide_scale = model.config.guide_scale if guide_scale is None else guide_scale
        if not self.guide_scale > 0:
            raise ValueError(f"guide_scale must be positive; got {self.guide_scale}")
        self.leak = model.config.leak if leak is None else leak
        if not 0 <= self.leak <= 1:
            raise ValueError(f"leak must lie in [0, 1]; got {self.leak}")
        self._unguided = np.zeros(2)  # moves of log alpha that nobody instructed: sum and count
        self.running = RunningDay(model) if model.config.layout == "day" else None

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion."""
        if observation.tick == 0:
            return self.advertisers.cpa_target.copy()
        source, window = self.guide_source, self.windows(observation)
        if isinstance(source, ExpectedMove):
            chances = source.chances(observation, self.advertisers)
            alphas, free = self._expected(window, chances), chances[:, 1] == 1.0
        else:
            guides = None if source is None else source(observation, self.advertisers)
            alphas = self._decided(window, guides)
            free = np.array([text == UNCERTAIN for text in guides or [UNCERTAIN] * len(alphas)])
        counted = free & (observation.alphas[:, -1] > 0)
        moves = np.log(alphas[counted] / observation.alphas[counted, -1])
        self._unguided += moves.sum(), len(moves)
        return alphas

    def _decided(self, window: Windows, guides: list[str] | None) -> NDArray[np.float64]:
        options = {"guide_scale": self.guide_scale, "leak": self.leak}
        return decide(self.model, window, guides, running=self.running, **options)

    def _expected(self, window: Windows, chances: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) alpha: the mean of log alpha under the three directions, whose chances are (n, 3)."""
        n = len(window)
        told = [SENTENCES[direction] for direction in (-1, 0, 1) for _ in range(n)]
        alphas = self._decided(window[np.tile(np.arange(n), 3)], told).reshape(3, n).T
        return np.exp((chances * np.log(np.maximum(alphas, 1e-9))).sum(axis=1))

    @property
    def drift(self) -> float:
        """47 times the mean move of log alpha that nobody instructed, over all days bid so far: how far alpha would
        wander in a day; NaN before the first such move."""
        return float((N_TICKS - 1) * self._unguided[0] / self._unguided[1]) if self._unguided[1] else np.nan

    def windows(self, observation: Observation) -> Windows:
        """What the model sees, with the return-to-go it is asked for."""
        wanted = self.target_return * self.advertisers.budget / self.advertisers.cpa_target
        gained = np.concatenate([np.zeros((len(observation), 1)), np.cumsum(observation.conversions, axis=1)], axis=1)
        length = observation.tick + 1 if self.model.config.layout == "day" else self.model.config.window_length
        return windows_of_observation(observation, self.advertisers, wanted[:, None] - gained, length)
