"""Learned bidders of the behaviour population (A.1): BC, IQL and CQL by d3rlpy, on a market of control bidders."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbm_core.data.learned_behaviour import LearnedPolicy, policy_features
from lbm_core.data.trajectories import TrajectorySet

ALGORITHMS = ("BC", "IQL", "CQL")


def learn_policies(trajectories: TrajectorySet, steps: int, seed: int) -> dict[str, LearnedPolicy]:
    """BC, IQL and CQL policies of a market's trajectories, by d3rlpy.

    The reward is the tick's share of the B / C affordable conversions, plus what was paid below the CPA target (minus
    what was paid above it) as a share of the budget: a bidder that only counted conversions would ignore its target.

    Parameters
    ----------
    trajectories : of the market to learn from
    steps : gradient steps of each
    seed : of d3rlpy
    """
    import d3rlpy
    import structlog
    import torch

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # d3rlpy tells a lot
    mean, std, low, high, dataset = _transitions(trajectories)
    made = {}
    for name in ALGORITHMS:
        d3rlpy.seed(seed)
        torch.manual_seed(seed)
        shape = d3rlpy.models.encoders.VectorEncoderFactory(hidden_units=[64, 64])
        config = getattr(d3rlpy.algos, f"{name}Config")
        networks = {field.name: shape for field in fields(config) if field.name.endswith("encoder_factory")}
        algorithm = config(batch_size=256, **networks).create(device="cpu:0")
        algorithm.fit(
            dataset,
            n_steps=steps,
            n_steps_per_epoch=steps,
            show_progress=False,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        )
        policy = algorithm.impl.policy
        layers = [m for key, m in policy.named_modules() if isinstance(m, torch.nn.Linear) and "logstd" not in key]
        weights = tuple(layer.weight.detach().numpy().copy() for layer in layers)
        biases = tuple(layer.bias.detach().numpy().copy() for layer in layers)
        made[name] = LearnedPolicy(weights, biases, mean, std, low, high)
        seen = dataset.episodes[0].observations
        restored = made[name].squashed(seen * std + mean)
        if not np.allclose(restored, algorithm.predict(seen)[:, 0], atol=1e-4):
            raise RuntimeError(f"the weights read from d3rlpy's {name} do not bid as it does: its version is not known")
    return made


def _transitions(found: TrajectorySet) -> tuple[NDArray, NDArray, float, float, Any]:
    import d3rlpy

    acting = found.acting
    features = policy_features(found.states, np.broadcast_to(found.cpa_target[:, None], acting.shape))
    mean = features[acting].mean(axis=0)
    std = features[acting].std(axis=0) + 1e-6
    actions = np.log(np.maximum(found.alphas, 1e-3) / found.cpa_target[:, None])
    low, high = np.percentile(actions[acting], [1, 99])
    squashed = np.clip(2 * (actions - low) / (high - low) - 1, -0.999, 0.999)
    reward = (2 * found.conversions * found.cpa_target[:, None] - found.costs) / found.budget[:, None]
    kept = [(row, acting[row]) for row in range(len(found)) if acting[row].sum() > 2]
    parts = [
        (np.clip((features[row] - mean) / std, -5, 5)[at], squashed[row][at][:, None], reward[row][at][:, None])
        for row, at in kept
    ]
    observations, taken, rewards = (np.concatenate(column).astype(np.float32) for column in zip(*parts, strict=True))
    terminals = np.concatenate([np.arange(len(part[0])) == len(part[0]) - 1 for part in parts]).astype(np.float32)
    dataset = d3rlpy.dataset.MDPDataset(observations, taken, rewards, terminals)
    return mean, std, float(low), float(high), dataset
