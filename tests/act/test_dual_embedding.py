"""LBM-Act reads what it may and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lbm_core.act.backbone import load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import LBMAct, positions
from lbm_core.act.guides import DECREASE, FIRST, INCREASE, TASK_DESCRIPTION, UNCERTAIN
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import windows


def _ends(days, ticks):
    return windows(days, np.zeros(len(ticks), dtype=int), np.array(ticks))


def test_fresh_model_repeats_the_last_action(folder, days):
    config = ActConfig(backbone=str(folder))
    model = LBMAct(load_backbone(str(folder)), StateEncoder.fit(days), config).eval()
    window = _ends(days, [0, 20])
    expected = np.log(window.previous_alphas[:, -1, 0] / window.cpa_target)
    predicted = model(model.batch(window, [FIRST, UNCERTAIN]))[:, -1]
    np.testing.assert_allclose(predicted.detach().numpy(), expected, atol=1e-6)


def test_layers_are_the_language_models_and_words_stay_frozen(make, folder, days):
    model, language = make(), load_backbone(str(folder)).model.model
    for name, weight in language.state_dict().items():
        torch.testing.assert_close(model.transformer.state_dict()[name], weight, rtol=0, atol=0)
    model(model.batch(_ends(days, [20]), [INCREASE])).sum().backward()
    assert model.token_embedding.weight.grad is None
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["transformer.embed_tokens.weight"]
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == [], "everything else is trained"


@pytest.mark.parametrize("guide", ["sentence", "none"])
def test_pads_and_the_unchosen_action_have_no_influence(make, days, guide):
    model = make(guide=guide)
    window = _ends(days, [3, 20])
    guides = [INCREASE, "increase"] if guide == "sentence" else None
    batch = model.batch(window, guides)
    usual = model(batch)
    pad = ~batch.mask
    noise = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(0))
    spoiled = replace(
        batch,
        returns_to_go=torch.where(pad, noise, batch.returns_to_go),
        states=torch.where(pad[..., None], noise[..., None], batch.states),
        actions=torch.where(pad, noise, batch.actions),
        timesteps=torch.where(pad, 47, batch.timesteps),
    )
    spoiled.actions[:, -1] = 123.0
    if guides is not None:
        spoiled = replace(spoiled, guide_ids=torch.where(batch.guide_mask, batch.guide_ids, 5))
    torch.testing.assert_close(model(spoiled)[batch.mask], usual[batch.mask], rtol=1e-5, atol=1e-5)
    batch.states[:, -1] += 1.0
    assert (model(batch)[:, -1] - usual[:, -1]).abs().min() > 1e-3, "the test can fail: the state does have influence"


@pytest.mark.parametrize(("name", "where"), [("returns_to_go", -1), ("actions", -2), ("states", -3)])
def test_every_kind_of_item_is_read(make, days, name, where):
    model = make()
    batch = model.batch(_ends(days, [20]), [INCREASE])
    usual = model(batch)[:, -1]
    getattr(batch, name)[:, where] += 1.0
    assert (model(batch)[:, -1] - usual).abs().min() > 1e-4


def test_later_ticks_do_not_reach_earlier_decisions(make, days):
    model = make()
    batch = model.batch(_ends(days, [20]), [INCREASE])
    usual = model(batch)
    batch.states[:, 6:] += 1.0
    batch.returns_to_go[:, 6:] += 1.0
    changed = model(batch)
    torch.testing.assert_close(changed[:, :6], usual[:, :6], rtol=1e-5, atol=1e-5)
    assert (changed[:, 6:] - usual[:, 6:]).abs().min() > 1e-5


def test_batch_of_mixed_lengths_equals_one_at_a_time(make, days):
    model = make()
    window = _ends(days, [0, 2, 9, 40])
    guides = [FIRST, "increase", DECREASE, UNCERTAIN]
    together = model(model.batch(window, guides))[:, -1]
    alone = [model(model.batch(window[k : k + 1], guides[k : k + 1]))[0, -1] for k in range(4)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-5)


def test_guide_changes_the_decision_and_its_absence_is_llm_dt(make, days):
    window = _ends(days, [20])
    guided = make()
    up, down = (guided(guided.batch(window, [text]))[0, -1].item() for text in (INCREASE, DECREASE))
    assert abs(up - down) > 1e-4
    assert guided.embed(guided.batch(window, [INCREASE]))[0].shape == (1, 7 + 3 * 10 - 1, 32)
    plain = make(guide="none")
    assert plain.embed(plain.batch(window))[0].shape == (1, 3 * 10 - 1, 32)
    task = make(guide="task")
    assert task.batch(window).guide_ids.shape[1] == len(task.tokenizer(TASK_DESCRIPTION)["input_ids"])
    assert (guided.config.method, plain.config.method, task.config.method) == ("LBM-Act", "LLM-DT", "Prompt-LLM-DT")


def test_guides_must_fit_the_model(make, days):
    window = _ends(days, [20, 21])
    with pytest.raises(ValueError, match="2 windows, 1 given"):
        make().batch(window, [INCREASE])
    with pytest.raises(ValueError, match="one guide per window"):
        make().batch(window)
    with pytest.raises(ValueError, match="takes no guides"):
        make(guide="none").batch(window, [INCREASE] * 2)
    with pytest.raises(ValueError, match="empty"):
        make().batch(window, [INCREASE, ""])


def test_return_scales(make, days):
    window = _ends(days, [20])
    wanted = window.returns_to_go[0, -1]
    relative = make().batch(window, [INCREASE]).returns_to_go[0, -1]
    assert relative == pytest.approx(wanted * window.cpa_target[0] / window.budget[0], rel=1e-5)
    assert make(return_scale="dataset").batch(window, [INCREASE]).returns_to_go[0, -1] == pytest.approx(wanted / 1500)


def test_positions_count_real_tokens():
    mask = torch.tensor([[False, True, True, False, False, True]])
    assert positions(mask).tolist() == [[0, 0, 1, 1, 1, 2]]


@pytest.mark.weights
def test_sentences_take_seven_tokens_as_in_figure_5():
    tokenizer = load_backbone("smollm2-135m", layers=1).tokenizer
    for text in (INCREASE, DECREASE, UNCERTAIN, FIRST):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 7
