"""Decisions of LBM-Act for many advertisers at once, and the bidder that makes them (Eq. 4, Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import GuideSource, uninstructed
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.data.windows import Windows, windows_of_observation


def decide(model: LBMAct, window: Windows, guides: Sequence[str] | None = None) -> NDArray[np.float64]:
    """The action of LBM-Act (Eq. 4), one forward pass for all windows.

    Parameters
    ----------
    model : LBMAct
    window : n windows; alpha at their last position is not read
    guides : n texts; None for LLM-DT and Prompt-LLM-DT

    Returns
    -------
    (n,) alpha, currency per conversion, within the range of the data
    """
    with torch.inference_mode():
        predicted = model(model.batch(window, guides))[:, -1].double().cpu().numpy()
    return np.clip(np.exp(predicted) * window.cpa_target, 0.0, ALPHA_LIMIT[model.config.dataset])


class LBMActBidder:
    """Bids with LBM-Act (or LLM-DT, Prompt-LLM-DT), led by a source of guides.

    The first bid of the day is the CPA target, as in the authors' release; unlike there it enters the history. The
    return-to-go starts at ``target_return`` B / C and falls with every conversion.

    Parameters
    ----------
    model : LBMAct
    guide_source : texts for the advertisers at each tick after the first, e.g. LBM-Think; default "uncertain" for
        everyone. A model without guides takes none.
    target_return : first return-to-go in units of B / C; default the config's

    Raises
    ------
    ValueError
        A guide source for LLM-DT or Prompt-LLM-DT, a target that is not positive.
    """

    def __init__(
        self, model: LBMAct, guide_source: GuideSource | None = None, target_return: float | None = None
    ) -> None:
        guided = model.config.guide in ("sentence", "cot")
        if guide_source is not None and not guided:
            raise ValueError(f"{model.config.method} takes no guides")
        self.model = model
        self.guide_source = (guide_source or uninstructed) if guided else None
        self.target_return = model.config.target_return if target_return is None else target_return
        if not self.target_return > 0:
            raise ValueError(f"target_return must be positive; got {self.target_return}")

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion."""
        if observation.tick == 0:
            return self.advertisers.cpa_target.copy()
        guides = None if self.guide_source is None else self.guide_source(observation, self.advertisers)
        return decide(self.model, self.windows(observation), guides)

    def windows(self, observation: Observation) -> Windows:
        """What the model sees, with the return-to-go it is asked for."""
        wanted = self.target_return * self.advertisers.budget / self.advertisers.cpa_target
        gained = np.concatenate([np.zeros((len(observation), 1)), np.cumsum(observation.conversions, axis=1)], axis=1)
        return windows_of_observation(
            observation, self.advertisers, wanted[:, None] - gained, self.model.config.window_length
        )
