"""What comes of writing alpha as text: losses, lengths, and what is read from a day's answers (chapter 7)."""

from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.replay import replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.lab import Lab
from lbm_core.lab.methods import LANGUAGE
from lbm_core.lab.texts import grpo, sft
from lbm_core.seeding import generator
from lbm_core.studies.sizes import few

SHOWN_TEXTS = 2  # of every method and status


def sft_losses(lab: Lab) -> pd.DataFrame:
    """Losses of SFT: step, loss."""
    from lbm_core.think.trainer import LOG

    return pd.read_csv(sft(lab).get() / LOG)


def grpo_lengths(lab: Lab) -> pd.DataFrame:
    """Fig. 6: the logs of :func:`lbm_core.baselines.grpo_text.train_grpo` for the tier's variants (column variant)."""
    from lbm_core.think.trainer import LOG

    logs = {variant: pd.read_csv(grpo(lab, variant).get() / LOG) for variant in lab.tier.chapter7.grpo_variants}
    return pd.concat(logs, names=["variant"]).reset_index("variant").reset_index(drop=True)


def answers_of_a_day(lab: Lab) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is read from the texts that Prompting, SFT and GRPO write on the first held-out day, and the first of them.

    Columns of the answers: method, status, count, tokens (mean), move and spread (mean and standard deviation of
    log alpha_t / alpha_{t-1}, NaN where there is no alpha), period. Of the texts, some of every method and status:
    method, tick, last_alpha, status, text, period.
    """
    own = few(lab, lab.tier.chapter7)
    period, who = own.held_out()[0], spread_rows(own.tier.evaluation.advertisers)
    frames = []
    for name, make in own.bidders(LANGUAGE).items():
        bidder: Any = make()
        replay(period, bidder, generator(0, "evaluation", period.period), rows=who)  # the first draw: texts are known
        frames.append(bidder.consultations.assign(method=name))
    texts = pd.concat(frames, ignore_index=True).assign(period=period.period)
    texts["move"] = np.log(texts["alpha"] / texts["last_alpha"])
    texts["text"] = texts["text"].str.strip().replace("", "(nothing)")
    kinds = texts.groupby(["method", "status", "period"], sort=False)
    columns = {"count": ("tokens", "size"), "tokens": ("tokens", "mean"), "move": ("move", "mean")}
    answers = kinds.agg(**columns, spread=("move", "std")).reset_index()
    return answers, kinds.head(SHOWN_TEXTS)[["method", "tick", "last_alpha", "status", "text", "period"]]
