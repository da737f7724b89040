"""What shortens GRPO's texts (Fig. 6), in a model of one parameter: after each word the text ends with chance p."""

import math
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from lbm_core.baselines.text_config import Group, LossType
from lbm_core.settings import Count, Positive, Whole, settings


@settings
class LengthModel:
    """Settings of :func:`train_length`. Nothing here is of the paper but the shape of Eq. 6."""

    loss_type: LossType = "grpo"  # how token losses are averaged
    hazard: Annotated[float, Field(ge=0, lt=1)] = 0.01  # chance that a word spoils the text: no alpha can be read
    length_floor: Whole = 0  # words below which a text is punished; 0 = none
    first_length: Annotated[float, Field(gt=1)] = 50  # mean words of the untrained model
    limit: Count = 200  # longest text, words
    steps: Count = 100
    prompts_per_step: Count = 4
    generations: Group = 4  # G of Eq. 6
    learning_rate: Positive = 0.05  # Adam's, of the log odds of p

    def __post_init__(self) -> None:
        if self.first_length >= self.limit:
            raise ValueError(f"first_length must lie between 1 and the limit, {self.limit}; got {self.first_length}")


def shares(words: np.ndarray, loss_type: str, limit: int) -> np.ndarray:
    """Weight of each token in the loss, for (prompts, generations) word counts; Eq. 6 is "grpo": one text, one vote."""
    if loss_type == "grpo":
        return 1 / (words * words.size)
    tokens = limit * words.size if loss_type == "dr_grpo" else words.sum()
    return np.full(words.shape, 1 / tokens)


def group_advantages(rewards: np.ndarray, loss_type: str = "grpo") -> np.ndarray:
    """Rewards relative to their group (Eq. 6), along the last axis; "dr_grpo" does not divide by the deviation."""
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    return centred if loss_type == "dr_grpo" else centred / (rewards.std(axis=-1, ddof=1, keepdims=True) + 1e-4)


def train_length(model: LengthModel, rng: np.random.Generator) -> pd.DataFrame:
    """Train the chance to stop by Eq. 6's gradient (one update per batch, so nothing is clipped) with Adam.

    A text is rewarded with 1 if none of its words spoiled it, whatever its length. The result: step (1..), length (mean
    words of the step's texts) and understood (share of the texts that were not spoiled).
    """
    odds, mean, square, rows = -math.log(model.first_length - 1), 0.0, 0.0, []
    for step in range(1, model.steps + 1):
        p = 1 / (1 + math.exp(-odds))
        words = np.minimum(rng.geometric(p, (model.prompts_per_step, model.generations)), model.limit)
        understood = rng.random(words.shape) < (1 - model.hazard) ** words
        reward = understood.astype(float)
        if model.length_floor:
            reward += np.minimum(words / model.length_floor, 1) - 1
        # d log(probability of a length) / d odds: after every word but the last the text went on; at the last it
        # stopped, or was cut.
        slope = np.where(words < model.limit, 1 - p, 0.0) - p * (words - 1)
        weight = shares(words, model.loss_type, model.limit)
        gradient = float(np.sum(weight * group_advantages(reward, model.loss_type) * slope))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        odds += model.learning_rate * mean / (1 - 0.9**step) / (math.sqrt(square / (1 - 0.99**step)) + 1e-8)
        rows.append({"step": step, "length": words.mean(), "understood": understood.mean()})
    return pd.DataFrame(rows)
