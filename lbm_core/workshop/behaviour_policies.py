"""Learned bidders of the behaviour population (A.1): BC, IQL and CQL by d3rlpy, on a market of control bidders."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbm_core.data.learned_behaviour import LearnedPolicy, policy_features
from lbm_core.data.trajectories import TrajectorySet


def learn_policies(trajectories: TrajectorySet, steps: int, seed: int) -> dict[str, LearnedPolicy]:
    """BC, IQL and CQL policies of a market's trajectories, by d3rlpy, with so many gradient steps each.

    The reward is the tick's share of the B / C affordable conversions, plus what was paid below the CPA target (minus
    what was paid above it) as a share of the budget: a bidder that only counted conversions would ignore its target.
    """
    import d3rlpy
    import structlog
    import torch

    from lbm_core.training import small_network

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # d3rlpy tells a lot
    mean, std, low, high, dataset = _transitions(trajectories)
    shape = d3rlpy.models.encoders.VectorEncoderFactory(hidden_units=[64, 64])
    quiet = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}
    policies = {}
    for name in ("BC", "IQL", "CQL"):
        config = getattr(d3rlpy.algos, f"{name}Config")
        networks = {field.name: shape for field in fields(config) if field.name.endswith("encoder_factory")}
        with small_network(seed):
            d3rlpy.seed(seed)
            algorithm = config(batch_size=256, **networks).create(device="cpu:0")
            algorithm.fit(dataset, n_steps=steps, n_steps_per_epoch=steps, **quiet)
        named = algorithm.impl.policy.named_modules()
        layers = [module for key, module in named if isinstance(module, torch.nn.Linear) and "logstd" not in key]
        weights, biases = (
            tuple(getattr(layer, kind).detach().numpy().copy() for layer in layers) for kind in ("weight", "bias")
        )
        policies[name] = LearnedPolicy(weights, biases, mean, std, low, high)
        seen = dataset.episodes[0].observations
        if not np.allclose(policies[name].squashed(seen * std + mean), algorithm.predict(seen)[:, 0], atol=1e-4):
            raise RuntimeError(f"the weights read from d3rlpy's {name} do not bid as it does: its version is not known")
    return policies


def _transitions(trajectories: TrajectorySet) -> tuple[NDArray, NDArray, float, float, Any]:
    """Mean and std of the features, range of log(alpha / C), and d3rlpy's data set of standardised transitions."""
    import d3rlpy

    acting, target = trajectories.acting, trajectories.cpa_target[:, None]
    features = policy_features(trajectories.states, np.broadcast_to(target, acting.shape))
    mean, std = features[acting].mean(axis=0), features[acting].std(axis=0) + 1e-6
    actions = np.log(np.maximum(trajectories.alphas, 1e-3) / target)
    low, high = np.percentile(actions[acting], [1, 99])
    squashed = np.clip(2 * (actions - low) / (high - low) - 1, -0.999, 0.999)
    reward = (2 * trajectories.conversions * target - trajectories.costs) / trajectories.budget[:, None]
    kept = acting & (acting.sum(axis=1, keepdims=True) > 2)
    ends = np.arange(acting.shape[1]) == trajectories.last_action[:, None]
    columns = [np.clip((features - mean) / std, -5, 5), squashed[:, :, None], reward[:, :, None], ends]
    dataset = d3rlpy.dataset.MDPDataset(*(column[kept].astype(np.float32) for column in columns))
    return mean, std, float(low), float(high), dataset
