"""DiffBid's networks: a temporal U-Net that denoises state paths, and a judge of whole days."""

import math

import torch
from torch import Tensor, nn

from lbm_core.auction.bidder import N_TICKS
from lbm_core.baselines.common import perceptron

_GROUPS = 8  # of the group normalisation; channels are multiples of it
_WIDTH = 3  # ticks that a convolution sees; the coarse levels carry what is further apart


class _Block(nn.Module):
    """Two convolutions over time around a shift by the embedded condition, and a residual."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()

        def convolution(channels: int) -> nn.Sequential:
            filtered = nn.Conv1d(channels, outputs, _WIDTH, padding=_WIDTH // 2)
            return nn.Sequential(filtered, nn.GroupNorm(_GROUPS, outputs), nn.Mish())

        self.first = convolution(inputs)
        self.shift = nn.Sequential(nn.Mish(), nn.Linear(embedding, 2 * outputs))
        self.second = convolution(outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.shift(embedded)[..., None].chunk(2, dim=1)
        return self.second(self.first(x) * (1 + scale) + shift) + self.skip(x)


class TemporalUNet(nn.Module):
    """Clean state path, predicted from a noisy one under some conditions: 48 ticks, then 24 and 12, and back.

    The first level has ``channels`` channels, a multiple of 8, the others twice as many.
    """

    def __init__(self, features: int, conditions: int, channels: int) -> None:
        super().__init__()
        self.channels, hidden = channels, 4 * channels
        self.embed = nn.Sequential(nn.Linear(channels + conditions, hidden), nn.Mish(), nn.Linear(hidden, hidden))
        self.down1 = _Block(features + 1, channels, hidden)
        self.half1 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.down2 = _Block(channels, 2 * channels, hidden)
        self.half2 = nn.Conv1d(2 * channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = _Block(2 * channels, 2 * channels, hidden)
        self.double2 = nn.ConvTranspose1d(2 * channels, 2 * channels, 4, stride=2, padding=1)
        self.up2 = _Block(4 * channels, channels, hidden)
        self.double1 = nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1)
        self.up1 = _Block(2 * channels, channels, hidden)
        self.out = nn.Conv1d(channels, features, 1)

    def forward(self, noisy: Tensor, known: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """(n, 48, d) clean path of a noisy one at (n,) integer levels; ``known`` is 1 where it is clean, (n, 48)."""
        half = self.channels // 2
        frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=noisy.device) / half)
        angles = level[:, None].float() * frequencies
        embedded = self.embed(torch.cat([angles.sin(), angles.cos(), condition], dim=1))
        fine = self.down1(torch.cat([noisy, known[..., None]], dim=-1).transpose(1, 2), embedded)
        coarse = self.down2(self.half1(fine), embedded)
        x = self.middle(self.half2(coarse), embedded)
        x = self.up2(torch.cat([self.double2(x), coarse], dim=1), embedded)
        x = self.up1(torch.cat([self.double1(x), fine], dim=1), embedded)
        return self.out(x).transpose(1, 2)


class PathValue(nn.Module):
    """What a whole day's state path is worth: the trajectory return model of CBD."""

    def __init__(self, features: int, context: int, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv1d(inputs, channels, 5, stride=2, padding=2) for inputs in (features, channels))
        self.paths = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten())
        self.head = perceptron(channels * N_TICKS // 4 + context, 2 * channels, 1)

    def forward(self, paths: Tensor, context: Tensor) -> Tensor:
        """(n,) of (n, 48, d) paths and (n, k) context."""
        return self.head(torch.cat([self.paths(paths.transpose(1, 2)), context], dim=1))[:, 0]
