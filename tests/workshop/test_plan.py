"""The dry run: a tier's stages with sizes of its configuration, and hours from what was recorded."""

import subprocess
import sys

import pandas as pd
import pytest

from lbm_core import paths
from lbm_core.lab.methods import METHODS
from lbm_core.lab.tiers import tier
from lbm_core.report import results
from lbm_core.settings import TIER_NAMES
from lbm_core.workshop import plan as module
from lbm_core.workshop.plan import HOURS, parameters, plan, report

RECORDED = paths.project_root() / "results"


def recorded(name):
    return pd.read_csv(RECORDED / f"{name}.csv")


def stage(rows, name):
    return rows.set_index("stage").loc[name]


@pytest.mark.parametrize(("name", "dataset"), [*((name, "dense") for name in TIER_NAMES), ("gpu", "sparse")])
def test_every_tier_prints_its_stages(name, dataset):
    sizes = tier(name)
    rows, said = plan(sizes, dataset), report(name, dataset=dataset)
    for each in rows["stage"]:
        assert each in said
    warmed = "warm-up of LBM-Think (unless the package carries it)" in set(rows["stage"])
    assert warmed == (sizes.think.warm_up is not None)
    known = rows[rows["hours"].notna()]
    assert (known[list(HOURS)] >= 0).all(axis=None)
    nothing = set(known.loc[known["hours"] == 0, "stage"])
    assert nothing <= {"chains of thought by Table 6's models"}, "no models beside the tier's"
    assert (known["hours"] >= known["on 8"]).all()
    assert (known["on 8"] >= known["on 64"]).all()
    assert len(known) >= len(rows) - 1, "what nothing has measured yet: oracle imitation"
    assert known["measured on"].str.contains(" cores").all()


def test_hours_are_the_recorded_throughput_times_the_sizes():
    sizes = tier("paper")
    rows = plan(sizes)
    market = recorded("benchmark_market").query("job == 'exact market' and processes == 1")["wall_seconds"].item()
    days = stage(rows, "trajectories")
    assert days["hours"] == pytest.approx(9_987 * market / 3600)
    assert days["on 64"] == pytest.approx(days["hours"] / 64)
    way = recorded("benchmark_act_training").query("way == 'days, float32'").iloc[0]
    per_unit = way["seconds_per_step"] / (way["batch_size"] * 135e6 * way["layers"] / 30)
    work = 3 * sizes.evaluation.train_seeds * sizes.act.steps * sizes.act.batch_size * 0.5e9
    assert stage(rows, "LBM-Act, LLM-DT, Prompt-LLM-DT")["hours"] == pytest.approx(per_unit * work / 3600)
    texts = recorded("benchmark_generation").query("engine == 'vllm'").iloc[0]
    asked = sizes.evaluation.train_seeds * sizes.gqpo.rounds * sizes.gqpo.prompts * sizes.gqpo.samples
    tokens = asked * sizes.think.sampling.max_new_tokens
    expected = tokens / texts["tokens_per_second"] * 3e9 / 135e6 / 3600
    assert stage(rows, "chains of thought for GQPO")["hours"] == pytest.approx(expected)
    cql = recorded("baseline_training").query("method == 'CQL' and tier == 'laptop'")
    then = tier("laptop").rl
    rate = (cql["seconds"] / cql["steps"]).median() / then.batch_size / then.hidden_size**2
    trainings = sizes.evaluation.train_seeds + sizes.tuning.trials * sizes.tuning.share
    asked = trainings * sizes.rl.steps * sizes.rl.batch_size * sizes.rl.hidden_size**2
    assert stage(rows, "CQL")["hours"] == pytest.approx(rate * asked / 3600)
    assert stage(rows, "CQL")["GiB"] == pytest.approx(cql["peak_mib"].max() / 1024)
    critic = recorded("baseline_training").query("method == 'critic' and tier == 'laptop'")
    weights = (critic["seconds"] / critic["steps"] / critic["parameters"]).median() / tier("laptop").critic.batch_size
    count = sizes.evaluation.train_seeds + len(sizes.chapter3.variants)
    work = count * sizes.critic.steps * sizes.critic.batch_size * 36 * sizes.critic.hidden_size**2 * sizes.critic.layers
    assert stage(rows, "critic and its variants")["hours"] == pytest.approx(weights * work / 3600)
    total = " / ".join(f"{value:,.3g}" for value in rows[list(HOURS)].sum())
    said = report("paper")
    assert f"All above: {total} hours" in said
    shares = " / ".join(f"{days[name]:,.3g}" for name in HOURS)
    assert f"The paper's 479,376 trajectories: {shares} hours" in said


def test_sizes_follow_what_is_set(lbm):
    plain, longer = plan(tier("gpu")), plan(tier("gpu", {"act.steps": 40_000, "chapter4.models": []}))
    name = "LBM-Act, LLM-DT, Prompt-LLM-DT"
    assert stage(longer, name)["hours"] == pytest.approx(2 * stage(plain, name)["hours"])
    assert "40,000 steps" in stage(longer, name)["size"]
    assert stage(longer, "chains of thought by Table 6's models")["hours"] == 0
    command = ("reproduce", "--tier", "laptop", "--set", "act.steps=777", "--dry-run")
    code, said, _ = lbm(*command, "--set", "act.backbone=nobody/any-9B")
    assert code == 0
    assert "777 steps" in said
    assert "critic and its variants" in said
    assert "Missing here: nobody/any-9B" in said
    assert not list(paths.project_root().glob("runs/laptop/*777*"))


def test_what_nothing_measured_is_unknown(monkeypatch, tmp_path):
    without = [name for name in results.available("cached") if name != "benchmark_generation"]
    monkeypatch.setattr(module.results, "available", lambda tier: without)
    row = stage(plan(tier("gpu")), "chains of thought for GQPO")
    assert pd.isna(row["hours"])
    assert row["measured on"] == "benchmark_generation: not there"
    assert "unknown" in report("gpu")
    folder = tmp_path / "somebody's model"
    folder.mkdir()
    own = plan(tier("gpu", {"act.backbone": str(folder)}))
    assert pd.isna(stage(own, "LBM-Act, LLM-DT, Prompt-LLM-DT")["hours"]), "its name states no size"


def test_a_models_name_states_its_size():
    assert parameters("Qwen/Qwen2.5-0.5B-Instruct") == 0.5e9
    assert parameters("smollm2-135m") == 135e6
    assert parameters("smollm2-135m", 2) == pytest.approx(9e6)
    assert pd.isna(parameters("a/folder"))


def test_the_numbers_of_methods_are_the_registrys():
    table = pd.read_csv(paths.PACKAGE / "workshop" / "plan.csv").set_index("stage")["size"]
    assert table.filter(like="of all methods").str.startswith(f"{len(METHODS)} methods").all()
    acting = [row for row in METHODS.values() if row.table == "Table 4" or row.played]
    assert table["decisions of LBM-Act and its relatives"].startswith(f"{len(acting)} methods")


@pytest.mark.weights
def test_prompts_are_as_long_as_the_table_says():
    """The numbers of tokens in plan.csv, of the default backbone's tokenizer."""
    import numpy as np

    from lbm_core.act.backbone import backbone_files
    from lbm_core.baselines.text_config import ANSWER_TOKENS, TextStyle
    from lbm_core.baselines.text_prompt import text_prompt
    from lbm_core.data.behaviour import simulate_trajectories
    from lbm_core.data.trajectories import sample_ends
    from lbm_core.seeding import generator
    from lbm_core.think.config import PromptStyle
    from lbm_core.think.prompt import logged_facts, render

    days, tokenizer = simulate_trajectories("dense", [100], 0), backbone_files("smollm2-135m").tokenizer
    rows, ticks = sample_ends(days, 40, generator(0, "think", 0))
    facts = logged_facts(days, rows[ticks > 0][:16], ticks[ticks > 0][:16])

    def tokens(write, style):
        return np.median([len(tokenizer(write(fact, tokenizer, style))["input_ids"]) for fact in facts])

    work = pd.read_csv(paths.PACKAGE / "workshop" / "plan.csv").set_index("stage")["work"]
    plain, shown, short = (
        tokens(render, style) for style in (PromptStyle(), PromptStyle("figure 4", 3), PromptStyle("indicators"))
    )
    expected = (
        f"({plain:.0f} - {plain - short:.0f} * indicators + {(shown - plain) / 3:.0f} * think_style_worked_examples"
    )
    assert expected in work["GQPO fine-tuning and its controls"]
    assert f"({tokens(text_prompt, TextStyle(False)):.0f} + {ANSWER_TOKENS})" in work["SFT"]
    plain, shown = (tokens(text_prompt, TextStyle(True, count)) for count in (0, 2))
    assert f"({plain:.0f} + {(shown - plain) / 2:.0f} * ask_style_worked_examples" in work["GRPO: learning"]


def test_it_needs_no_torch():
    code = (
        "import sys; from lbm_core.workshop.plan import report; said = report('paper')\n"
        "print([name for name in ('torch', 'transformers', 'vllm') if name in sys.modules], said[-200:])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("[] ")
    assert "Missing here:" in done.stdout
