"""The Minari export."""

import numpy as np
import pytest
from small_periods import invented_period

from lbm_core.data.trajectories import TrajectorySet


def test_minari_export(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="pip install 'lbm-companion[rl]'")
    from lbm_core.workshop.export import export_minari

    trajectories = TrajectorySet.from_logs([invented_period(period=30)])
    alphas = trajectories.alphas.copy()
    ends_early = trajectories.length < 48
    alphas[ends_early, trajectories.length[ends_early] - 1] = 0
    trajectories = TrajectorySet(**{**vars(trajectories), "alphas": alphas})
    path = export_minari(tmp_path, trajectories)
    assert path == tmp_path / "lbm" / "auctionnet-dense-v0"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("lbm/auctionnet-dense-v0")
    assert dataset.total_episodes == len(trajectories)
    assert dataset.total_steps == (trajectories.length - ends_early).sum()
    metadata = list(dataset.storage.get_episode_metadata(range(len(trajectories))))
    for row, episode in enumerate(dataset.iterate_episodes()):
        steps = len(episode.rewards)
        target = trajectories.cpa_target[row]
        np.testing.assert_allclose(np.exp(episode.actions[:, 0]) * target, trajectories.alphas[row, :steps], rtol=1e-5)
        assert np.array_equal(episode.observations[:steps], trajectories.states[row, :steps])
        assert np.array_equal(episode.rewards, trajectories.conversions[row, :steps])
        np.testing.assert_allclose(episode.infos["cost"][1:], trajectories.costs[row, :steps])
        assert episode.terminations.tolist() == [False] * (steps - 1) + [True]
        assert metadata[row]["budget"] == trajectories.budget[row]
        if ends_early[row]:
            assert np.array_equal(episode.observations[steps], trajectories.states[row, steps])
        else:
            assert episode.observations[steps, 0] == 0
    with pytest.raises(FileExistsError, match="is there already"):
        export_minari(tmp_path, trajectories)
    with pytest.raises(ValueError, match="takes 1 to"):
        export_minari(tmp_path / "x", trajectories.select(np.zeros(0, dtype=int)))
    monkeypatch.chdir(tmp_path)
    assert export_minari("relative", trajectories) == tmp_path / "relative" / "lbm" / "auctionnet-dense-v0"
