"""Fig. 6 over many steps: a model learns its own texts without worked examples, and GRPO starts from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_language_model import tiny_language_model

from lbm_core.pipeline import long_grpo
from lbm_core.think import finetune
from lbm_core.think.generate import Generation
from lbm_core.tiers import get_tier


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A cache of its own, a language model of bytes, and a tier of seconds."""
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lbm_core.act.backbone.backbone_files", lambda _: tiny_language_model())
    for module in ("baselines.text_training", "think.finetune"):
        monkeypatch.setattr(f"lbm_core.{module}.load_backbone", lambda *_, **__: tiny_language_model())
    return get_tier(
        "smoke",
        data__train_periods=1,
        language__trained_layers=1,
        language__max_new_tokens=8,
        language__grpo_length_floor=4,
        language__long_variants=("grpo", "grpo, length floor"),
        language__long_texts=2,
        language__long_steps=2,
        language__long_generations=2,
    )


def written(monkeypatch, texts):
    """Let the pretrained model write these texts by turns; returns the prompts that it is asked."""
    asked: list[str] = []

    def fake(tier, dataset, seed, prompts):
        asked.extend(prompts)
        return [Generation(texts[k % len(texts)], 5, "stop", 0.1) for k in range(len(prompts))]

    monkeypatch.setattr(long_grpo, "_written", fake)
    return asked


def test_its_own_texts_lose_their_worked_examples_and_keep_their_form(tiny, monkeypatch):
    asked = written(monkeypatch, ["I would wait.", "Hence <alpha>8.5</alpha>", "<alpha>-1</alpha>"])
    more = replace(tiny, language=replace(tiny.language, long_texts=3))
    prompts, texts = long_grpo.own_texts(more, "dense", 0)
    assert len(asked) == 6
    assert texts == ["Hence <alpha>8.5</alpha>"] * 2, "of six texts two hold a readable alpha"
    for short, long in zip(prompts, asked[1::3], strict=True):
        assert len(short) < len(long) / 2
        facts = short[short.index("The advertiser has") :]
        assert long.endswith(facts), "the same moment, behind worked examples"
    written(monkeypatch, ["I would wait."])
    with pytest.raises(ValueError, match="nothing to start Fig"):
        long_grpo.own_texts(more, "dense", 0)


def test_grpo_starts_from_what_was_learned_and_is_found_again(tiny, monkeypatch, capsys):
    written(monkeypatch, ["Hence <alpha>8.5</alpha>"])
    learned = []
    finetuned = finetune.finetune

    def watched(config, prompts, texts, folder):
        learned.append((config.lora_rank, list(texts)))
        return finetuned(config, prompts, texts, folder)

    monkeypatch.setattr(finetune, "finetune", watched)
    found = long_grpo.long_lengths(tiny, "dense", 0)
    assert learned == [(8, ["Hence <alpha>8.5</alpha>"] * 2)]
    assert found.groupby("variant", sort=False)["step"].apply(list).to_dict() == {
        "grpo": [1, 2],
        "grpo, length floor": [1, 2],
    }
    capsys.readouterr()
    assert long_grpo.long_lengths(tiny, "dense", 0).equals(found)
    assert "computed" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="long_variants"):
        long_grpo.long_lengths(replace(tiny, language=replace(tiny.language, long_variants=())), "dense", 0)
