"""How fast LBM-Think writes: vLLM against transformers, on the same prompts in one run.

    make vllm && .venv/bin/python benchmarks/generation.py      # minutes; writes results/benchmark_generation.csv
    python benchmarks/generation.py --prompts 2 --tokens 4 --repetitions 1 --output DIR            # does it run?

The named alternative is transformers as this project uses it: batches in bfloat16 whose shared beginning is read once.
``--server URL`` adds a server that serves the model. All ways go through :func:`lbm_core.think.generate.generate`, with
prompts of moments of a simulated period, n texts each; they take turns, so that a busy moment hits all of them. An
engine's start is told apart (``start_seconds``). ``speedup`` is the ratio of median tokens per second, over
transformers. ``speedup_of_cpu`` is that of tokens per second of processor time of this process and its workers, which
other programs on the machine disturb less; ``others`` is the share of the machine that those took.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import psutil
import torch

from lbm_core.data.behaviour import simulate_trajectories
from lbm_core.data.trajectories import sample_ends
from lbm_core.report import results
from lbm_core.seeding import generator
from lbm_core.think.backends import choose_backend
from lbm_core.think.config import PromptStyle, Sampling
from lbm_core.think.generate import Backend, generate
from lbm_core.think.prompt import PromptFacts, logged_facts, render

BASELINE = "transformers"


def processor_seconds() -> tuple[float, float]:
    """Processor time of this process and its workers, and of the whole machine, so far."""
    own = psutil.Process()
    spent = sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))
    machine = psutil.cpu_times()
    return spent, sum(machine) - machine.idle - getattr(machine, "iowait", 0.0)


def logged_moments(n: int, seed: int = 0) -> list[PromptFacts]:
    """Facts of n moments with a past, of one simulated delivery period."""
    days = simulate_trajectories("dense", [100], seed)
    rows, ticks = sample_ends(days, 2 * n + 64, generator(seed, "think", 0))
    past = np.flatnonzero(ticks > 0)[:n]
    return logged_facts(days, rows[past], ticks[past])


def measured(backend: Backend, prompts: list[str], n: int, sampling: Sampling, seed: int) -> dict[str, float]:
    """One run of :func:`generate`: what was written, and in what time."""
    began, (own, machine) = time.perf_counter(), processor_seconds()
    groups = generate(prompts, n, backend, sampling, seed=seed, progress=False)
    wall, (own_now, machine_now) = time.perf_counter() - began, processor_seconds()
    tokens = [text.tokens for group in groups for text in group]
    spent = own_now - own
    return {
        "texts": len(tokens),
        "mean_tokens": float(np.mean(tokens)),
        "seconds": wall,
        "cpu_seconds": spent,
        "tokens_per_second": sum(tokens) / wall,
        "tokens_per_cpu_second": sum(tokens) / spent,
        "others": (machine_now - machine - spent) / wall / (psutil.cpu_count() or 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of chains of thought.")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=3, help="n, texts per prompt")
    parser.add_argument("--tokens", type=int, default=64, help="length limit of a text")
    parser.add_argument("--worked-examples", type=int, default=3, help="solved cases in the prompt; the paper: 0")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--server", default="", help="address of a server that serves the backbone under its name")
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    facts = logged_moments(arguments.prompts)
    names = [BASELINE, "vllm", *([arguments.server] if arguments.server else [])]
    shown = arguments.worked_examples
    style = PromptStyle(worked_examples=shown)
    sampling = Sampling(arguments.tokens, temperature=0.7)
    backends, starts = {}, {}
    for name in names:
        began = time.perf_counter()
        backend = choose_backend(name, arguments.backbone)
        backend.batch_size = arguments.prompts
        prompts = [render(fact, backend.tokenizer, style) for fact in facts]
        backend.sample(prompts[:1], 1, Sampling(4), 0)
        backends[name], starts[name] = backend, time.perf_counter() - began
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for repetition in range(arguments.repetitions):
        for name, backend in backends.items():
            runs[name].append(measured(backend, prompts, arguments.samples, sampling, repetition))
            print(f"{name}: {runs[name][-1]['tokens_per_second']:.0f} tokens/s", flush=True)
    medians = {name: pd.DataFrame(rows).median() for name, rows in runs.items()}
    rows = [
        {
            "engine": "server" if name == arguments.server else name,
            **medians[name],
            "slowest": min(row["tokens_per_second"] for row in runs[name]),
            "fastest": max(row["tokens_per_second"] for row in runs[name]),
            "speedup": medians[name]["tokens_per_second"] / medians[BASELINE]["tokens_per_second"],
            # A server's processor time is not this process's.
            "speedup_of_cpu": np.nan
            if name == arguments.server
            else medians[name]["tokens_per_cpu_second"] / medians[BASELINE]["tokens_per_cpu_second"],
            "start_seconds": starts[name],
        }
        for name in names
    ]
    lengths = [len(backends[BASELINE].tokenizer(prompt)["input_ids"]) for prompt in prompts]
    settings = {
        "prompts": arguments.prompts,
        "prompt_tokens": int(np.median(lengths)),
        "samples": arguments.samples,
        "max_new_tokens": arguments.tokens,
        "threads": torch.get_num_threads(),
        "repetitions": arguments.repetitions,
    }
    frame = pd.DataFrame(rows).assign(**settings)
    print(frame.to_string(index=False, float_format="{:.4g}".format))
    results.record(
        "benchmark_generation",
        frame,
        tier="laptop",
        dataset="dense",
        backbone=arguments.backbone,
        output=arguments.output,
    )
    for backend in backends.values():
        backend.close()


if __name__ == "__main__":
    main()
