"""Tiers: every size of the chain, from minutes on a laptop to the paper's sizes on eight GPUs.

A tier holds the configurations themselves; each size is typed once, here. A notebook's ``SET`` or a command-line
``--set`` overrides dotted fields; nothing else does. Data set and seeds are no sizes: the lab binds them.
"""

from dataclasses import replace
from typing import Any

from lbm_core.act.config import ActConfig
from lbm_core.baselines.config import DiffBidConfig, DTConfig, DTQConfig, ImitationConfig, OfflineRLConfig, UscbConfig
from lbm_core.baselines.text_config import AskConfig, GRPOTextConfig, SFTTextConfig, TextStyle
from lbm_core.critic.config import CriticConfig
from lbm_core.lab.chapters import Chapter2, Chapter3, Chapter4, Chapter5, Chapter6, Chapter7, Chapter8, Chapter9
from lbm_core.lab.tier import DataConfig, EvaluationConfig, Tier, TuningConfig
from lbm_core.settings import TIER_NAMES, override
from lbm_core.think.config import FinetuneConfig, GQPOConfig, PromptStyle, Sampling, ThinkConfig, WarmUpConfig

_SMOKE = Tier(
    "smoke",
    data=DataConfig(),
    act=ActConfig(
        layers=2,
        layout="day",
        steps=40,
        batch_size=4,
        learning_rate=3e-4,
        schedule="cosine",
        leak=0.1,
        # A short training meets too few "uncertain" guides to learn them from 5 % of its windows.
        guide_dropout=0.2,
        dead_band=0.02,
    ),
    # It sees no past bids: the effect of a level of alpha then belongs to the action, not to what went before.
    critic=CriticConfig(
        state_kind="no_bids",
        window_length=1,
        hidden_size=64,
        layers=2,
        heads=4,
        expectile=0.9,
        n_step=12,
        steps=300,
        learning_rate=1e-3,
    ),
    think=ThinkConfig(
        # A model of 135M cannot be prompted into reasoning; the updates that the package carries make it reason.
        warm_up=WarmUpConfig(),
        style=PromptStyle(form="indicators"),
        sampling=Sampling(max_new_tokens=64),
        every=24,
    ),
    gqpo=GQPOConfig(
        prompts=8, learned=4, finetune=FinetuneConfig(epochs=1, batch_size=4, learning_rate=1e-5, precision="bfloat16")
    ),
    dt=DTConfig(hidden_size=64, layers=2, heads=4, steps=200),
    dt_q=DTQConfig(steps=30),
    # Rewards are summed over twelve ticks: one-step bootstrapping needs many steps to reach back over a day.
    rl=OfflineRLConfig(hidden_size=64, steps=300, batch_size=64, learning_rate=1e-3, n_step=12),
    uscb=UscbConfig(hidden_size=64, periods=2, steps=1_500, n_step=12),
    imitation=ImitationConfig(),
    diffbid=DiffBidConfig(channels=16, steps=150, sampling_steps=5, candidates=2),
    ask=AskConfig(every=24, style=TextStyle(worked_examples=2), max_new_tokens=56, temperature=0.5),
    sft=SFTTextConfig(samples=4, batch_size=4, learning_rate=2e-4, lora_rank=8, trained_layers=4, precision="bfloat16"),
    grpo=GRPOTextConfig(
        prompts=4,
        steps=2,
        generations=2,
        max_new_tokens=56,
        temperature=0.7,
        learning_rate=5e-5,
        lora_rank=8,
        trained_layers=4,
        precision="bfloat16",
    ),
    tuning=TuningConfig(),
    evaluation=EvaluationConfig(),
    chapter2=Chapter2(),
    chapter3=Chapter3(),
    chapter4=Chapter4(),
    chapter5=Chapter5(),
    chapter6=Chapter6(),
    chapter7=Chapter7(),
    chapter8=Chapter8(),
    chapter9=Chapter9(),
)
_CRITICS = (
    "default",
    "without past bids",
    "with past bids",
    "conversions",
    "conversions, 16 features",
    "paper's recipe, small",
    "Monte Carlo",
    "ensemble",
    "ensemble, pessimistic",
)
_SEARCHED = ("one step", "expectile 0.7", "expectile 0.97", "width 64", "width 128", "2,000 steps", "8,000 steps")
_CONTROLS = ("random", "rule", "argmin", "weights")
_BUDGETS = (0.5, 0.75, 1.0, 1.25, 1.5)
_STUDIED = Chapter2(
    curves=("none", "task", "sentence", "number"),
    guides=("random", "rule", "cumulative rule", "critic", "replay-Q", "oracle"),
    guide_scales=(0.5,),
    guide_intervals=(),
    sizes=("default", "1 layer", "4 layers", "random", "frozen", "random, frozen", "LoRA"),
    text_steps=100,
    advertisers=48,
    train_seeds=3,
)
_LAPTOP = replace(
    _SMOKE,
    name="laptop",
    data=DataConfig(train_periods=200),
    # The loss is flat by then. That longer trainings bid no better was seen in trials that are not recorded.
    act=replace(_SMOKE.act, steps=120, batch_size=8, precision="bfloat16", guide_dropout=0.15, dead_band=0.0),
    critic=replace(_SMOKE.critic, hidden_size=128, steps=8_000),
    critic_on={
        "sparse": {"state_kind": "extended", "window_length": 10, "hidden_size": 64, "expectile": 0.7, "steps": 3_000}
    },
    think=replace(_SMOKE.think, backend="auto", every=1),
    gqpo=GQPOConfig(
        prompts=1_300,
        learned=1_000,
        rounds=2,  # about the paper's 2,000 texts in all
        on_policy=0.5,
        # Low-rank updates keep the arithmetic that the warm-up taught, which all weights lost in a trial.
        finetune=FinetuneConfig(
            epochs=3,
            batch_size=8,
            micro_batch_size=8,
            learning_rate=1e-3,
            lora_rank=16,
            schedule="cosine",
            checkpointing=False,
            precision="bfloat16",
        ),
    ),
    dt=DTConfig(hidden_size=128, layers=3, heads=8, steps=600),
    dt_q=DTQConfig(steps=150),
    rl=OfflineRLConfig(hidden_size=128, steps=4_000, n_step=12),
    uscb=UscbConfig(hidden_size=128, periods=10, steps=15_000, n_step=12),
    imitation=ImitationConfig(periods=24, steps=400),
    diffbid=DiffBidConfig(channels=32, steps=1_500, sampling_steps=5, candidates=2),
    ask=AskConfig(every=12, style=TextStyle(worked_examples=2), max_new_tokens=64, temperature=0.5),
    sft=SFTTextConfig(
        samples=192, batch_size=8, learning_rate=5e-4, lora_rank=16, trained_layers=8, precision="bfloat16"
    ),
    grpo=GRPOTextConfig(
        prompts=16,
        steps=16,
        generations=4,
        max_new_tokens=64,
        temperature=0.7,
        learning_rate=2e-4,
        lora_rank=16,
        trained_layers=8,
        precision="bfloat16",
    ),
    tuning=TuningConfig(trials=6, share=0.25, periods=4),
    # Days differ ten times as much as draws do, so a second draw of conversions would buy next to nothing.
    evaluation=EvaluationConfig(
        periods=12, advertisers=48, train_seeds=3, closed_loop_periods=6, closed_loop_at_once=16
    ),
    chapter2=_STUDIED,
    chapter3=Chapter3(variants=_CRITICS, searched=_SEARCHED),
    chapter4=Chapter4(models=("smollm2-135m",), prompts=64, day_every=4, periods=6, advertisers=8),
    chapter5=Chapter5(
        controls=("random",),
        temperatures=(0.4, 1.0),
        sweep_prompts=60,
        sweep_samples=8,
        probes=500,
        coin_prompts=1_000,
        periods=6,
        advertisers=48,
        finetunings=3,
    ),
    chapter6=Chapter6(ablations=("BC", "DT", "IQL", "DiffBid"), budget_ratios=_BUDGETS, budget_methods=()),
    chapter7=Chapter7(advertisers=8, grpo_variants=("grpo", "dr_grpo", "grpo, length floor"), length_floor=40),
    chapter8=Chapter8(budget_ratios=_BUDGETS),
    chapter9=Chapter9(
        guides=("rule", "critic", "oracle"), late=(1, 2, 4), missing=(0.25, 0.75), batch=48, advertisers=8
    ),
)
_GPU = replace(
    _LAPTOP,
    name="gpu",
    data=DataConfig(train_periods=1_000),
    act=ActConfig(
        backbone="Qwen/Qwen2.5-0.5B-Instruct", layout="day", steps=20_000, batch_size=16, schedule="cosine", leak=0.1
    ),
    critic=replace(_LAPTOP.critic, hidden_size=256, steps=40_000, learning_rate=3e-4),
    critic_on={"sparse": {"state_kind": "extended", "window_length": 10, "expectile": 0.7}},
    think=ThinkConfig(backbone="Qwen/Qwen2.5-3B-Instruct", backend="auto", sampling=Sampling(max_new_tokens=768)),
    gqpo=GQPOConfig(finetune=FinetuneConfig(precision="bfloat16")),
    dt=DTConfig(hidden_size=512, layers=6, heads=8, steps=40_000, learning_rate=1e-4),
    dt_q=DTQConfig(steps=10_000),
    rl=OfflineRLConfig(steps=400_000),
    uscb=UscbConfig(hidden_size=256, periods=40, steps=1_000_000),
    diffbid=DiffBidConfig(channels=128, steps=100_000, batch_size=128, candidates=16),
    ask=AskConfig(every=4, max_new_tokens=768, temperature=0.7),
    sft=SFTTextConfig(samples=20_000, batch_size=64, learning_rate=1e-4, lora_rank=64, precision="bfloat16"),
    grpo=GRPOTextConfig(
        prompts=600,
        steps=150,
        prompts_per_step=4,
        generations=8,
        max_new_tokens=768,
        learning_rate=1e-5,
        lora_rank=64,
        precision="bfloat16",
    ),
    tuning=TuningConfig(trials=12, share=0.1, periods=6),
    evaluation=EvaluationConfig(
        periods=20, draws=5, advertisers=48, train_seeds=3, closed_loop_periods=6, closed_loop_at_once=6
    ),
    chapter2=replace(_STUDIED, guides=(*_STUDIED.guides, "LBM-Think"), text_steps=2_000, advertisers=48),
    chapter3=Chapter3(variants=(*_CRITICS, "as Table 9")),
    chapter4=Chapter4(
        models=tuple(f"Qwen/Qwen2.5-{size}-Instruct" for size in ("0.5B", "1.5B", "7B")), day_every=1, advertisers=48
    ),
    chapter5=Chapter5(
        controls=_CONTROLS,
        temperatures=(0.3, 0.5, 1.0, 1.3),
        sweep_prompts=200,
        sweep_samples=8,
        probes=1_000,
        coin_prompts=2_000,
        advertisers=48,
    ),
    chapter7=Chapter7(advertisers=48, grpo_variants=("grpo", "grpo, length floor"), length_floor=200),
    chapter9=replace(_LAPTOP.chapter9, guides=("rule", "critic", "oracle", "LBM-Think"), advertisers=48),
)
_PAPER = replace(
    _GPU,
    name="paper",
    data=DataConfig(train_periods=9_987),
    act=replace(_GPU.act, steps=400_000),
    critic_on={},
    critic=CriticConfig(),
    ask=replace(_GPU.ask, every=1),
    sft=replace(_GPU.sft, samples=400_000, learning_rate=1e-5, lora_rank=None),
    grpo=replace(_GPU.grpo, prompts=3_200, steps=400, prompts_per_step=8, learning_rate=1e-6, lora_rank=None),
    evaluation=replace(_GPU.evaluation, train_seeds=5, text_train_seeds=5),
    chapter2=replace(_GPU.chapter2, text_steps=20_000, train_seeds=3),
    chapter3=Chapter3(variants=(*Chapter3().variants, "as Table 9")),
    chapter4=replace(_GPU.chapter4, models=tuple(f"Qwen/Qwen2.5-{size}-Instruct" for size in ("7B", "32B"))),
    chapter7=replace(
        _GPU.chapter7,
        # with one prompt per step "bnpo" is "dapo"
        grpo_variants=("grpo", "dapo", "dr_grpo", "grpo, length floor", "bnpo"),
    ),
)
_TIERS = {each.name: each for each in (_SMOKE, _LAPTOP, _GPU, _PAPER)}
# "cached" computes nothing large: it reads committed results; its live demonstrations are smoke-sized.
_TIERS["cached"] = replace(_SMOKE, name="cached")
# What is no size: the lab binds data set, seed and whose transformer is trained.
_BOUND = ("name", "dataset", "seed", "finetune.backbone", "warm_up.backbone", "sft.backbone", "grpo.backbone")


def tier(name: str, changes: dict[str, Any] | None = None) -> Tier:
    """The tier of a name, with dotted fields changed, e.g. by ``{"act.steps": 50, "think.backbone": "/a/folder"}``.

    ValueError: unknown tier or field, a value of another type or outside its range, a field that is no size.
    """
    if name not in _TIERS:
        raise ValueError(f"unknown TIER {name!r}; choose one of {', '.join(TIER_NAMES)}")
    for dotted in changes or {}:
        if any(dotted == bound or dotted.endswith(f".{bound}") for bound in _BOUND):
            raise ValueError(f"{dotted!r} is no size of a tier: the run's DATASET, SEED and think.backbone decide it")
    # What is asked for holds on every data set.
    asked = {dotted.removeprefix("critic.") for dotted in changes or {}}
    chosen = _TIERS[name]
    kept = {d: {k: v for k, v in own.items() if k not in asked} for d, own in chosen.critic_on.items()}
    return override(replace(chosen, critic_on=kept), changes or {})
