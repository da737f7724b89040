"""LLM-DT and Prompt-LLM-DT (A.3): LBM-Act's transformer without reasoning, with and without the task in words.

Both are LBM-Act's network and training with another language input, so that Table 2 compares inputs and not code.
"""

from __future__ import annotations

from lbm_core.act.decide import LBMActBidder
from lbm_core.act.dual_embedding import LBMAct


class LLMDTBidder(LBMActBidder):
    """Bids with LLM-DT or Prompt-LLM-DT: numbers in, alpha out, nobody advises.

    Parameters
    ----------
    model : trained with ``guide="none"`` (LLM-DT) or ``guide="task"`` (Prompt-LLM-DT, which also reads a fixed
        description of the task at every tick) in its :class:`lbm_core.act.config.ActConfig`
    target_return : first return-to-go in units of B / C; default the config's

    Raises
    ------
    ValueError
        A model that was trained to follow guides.
    """

    def __init__(self, model: LBMAct, target_return: float | None = None) -> None:
        if model.config.guide not in ("none", "task"):
            raise ValueError(f"this is an LBM-Act trained with guide {model.config.guide!r}, not an LLM-DT")
        super().__init__(model, None, target_return)
