"""Capture activations by `skleiden.capture` and by a bare loop, side by side.

Both take turns, A B A B, with the same model, texts, batches and pooling; the bare loop
is what one would write by hand for one model: hooks, a pass a batch, the mean over the
mask. Seconds are those of the processor, on one thread unless `--threads` says
otherwise, because other work on the machine would hide so small a difference. Then
memory: the peak of a process that captures with `out`, for some texts and for four
times as many, beside what it would have to hold without.

    pip install torch==2.13.0 transformers zarr
    python benchmarks/bench_capture.py --quick
    python benchmarks/bench_capture.py --model FOLDER --output results.json

Without `--model`, the model has MiniLM's shape and random weights, and words have
numbers for tokens; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from bench_pipeline import environment, forget_peak, markdown_table, peak_mb, publish
from prompt_themes import make_prompts

from skleiden.capture import capture_activations
from skleiden.capture._tokens import batches

N_TEXTS = 1000
BATCH_TOKENS = 1024
VOCABULARY = 30_000
PROJECTION = "encoder.layer.{}.output.dense"


def words(texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
    """Take words as tokens, between two special ones."""
    ids = [
        [1, *(3 + zlib.crc32(w.encode()) % (VOCABULARY - 3) for w in t.split()), 2]
        for t in texts
    ]
    special = [[1, *[0] * (len(own) - 2), 1] for own in ids]
    return {"input_ids": ids, "special_tokens_mask": special}


def load(folder: Path | None) -> tuple[Any, Any]:
    """Give a BERT-like model and its tokenizer, of a folder or with random weights."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

    if folder is not None:  # in evaluation
        model: Any = AutoModel.from_pretrained(folder)
        return model, AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    model = BertModel(config)
    model.train(mode=False)
    return model, words


def make_texts(n: int) -> list[str]:
    """Short texts: the prompts, over again with a number if there are not enough."""
    prompts = [prompt.text for prompt in make_prompts()]
    return [f"{prompts[i % len(prompts)]} {i // len(prompts)}" for i in range(n)]


def bare_loop(model: Any, texts: list[str], tokenizer: Any) -> list[np.ndarray]:
    """Capture as one would by hand, in the batches that skleiden takes."""
    import torch

    encoded = tokenizer(
        texts, truncation=True, max_length=512, return_special_tokens_mask=True
    )
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    lengths = np.array([len(own) for own in ids])
    n_layers = model.config.num_hidden_layers
    hidden: list[Any] = []
    handles = [
        model.get_submodule(PROJECTION.format(n)).register_forward_pre_hook(
            lambda _, args: hidden.append(args[0])
        )
        for n in range(n_layers)
    ]
    width = model.config.intermediate_size
    means = [np.empty((len(texts), width), np.float32) for _ in range(n_layers)]
    with torch.inference_mode():
        for rows in batches(lengths, BATCH_TOKENS, one_length=False):
            longest = lengths[rows].max()
            batch = torch.zeros((rows.size, longest), dtype=torch.long)
            mask = torch.zeros((rows.size, longest), dtype=torch.long)
            weights = torch.zeros((rows.size, longest))
            for place, row in enumerate(rows.tolist()):
                batch[place, : len(ids[row])] = torch.tensor(ids[row])
                mask[place, : len(ids[row])] = 1
                weights[place, : len(ids[row])] = 1 - torch.tensor(special[row]).float()
            weights /= weights.sum(dim=1, keepdim=True)
            hidden.clear()
            model(input_ids=batch, attention_mask=mask)
            for mean, activations in zip(means, hidden, strict=True):
                mean[rows] = (weights[:, None] @ activations)[:, 0].numpy()
    for handle in handles:
        handle.remove()
    return means


def timed(capture: Callable[[], Any]) -> tuple[float, Any]:
    start = process_time()
    result = capture()
    return process_time() - start, result


def compare(model: Any, tokenizer: Any, n: int, repeats: int) -> dict[str, Any]:
    """Seconds of both, of `repeats` pairs, and how far their results are apart."""
    texts = make_texts(n)

    def ours(out: Path | None = None) -> Any:
        return capture_activations(
            model, texts, tokenizer, batch_tokens=BATCH_TOKENS, out=out
        )

    with tempfile.TemporaryDirectory() as folder:  # all is imported then
        bare_loop(model, texts[:50], tokenizer)
        ours(Path(folder) / "a")
    pairs, apart = [], 0.0
    for _ in range(repeats):
        bare_s, bare = timed(lambda: bare_loop(model, texts, tokenizer))
        memory_s, stack = timed(ours)
        with tempfile.TemporaryDirectory() as folder:
            out_s, _ = timed(lambda at=folder: ours(Path(at) / "a"))  # type: ignore[misc]
        pairs.append({"bare": bare_s, "memory": memory_s, "out": out_s})
        for one, other in zip(stack.layers, bare, strict=True):
            apart = max(apart, float(np.abs(one - other).max()))
    ratios = {
        kind: median(pair["bare"] / pair[kind] for pair in pairs)
        for kind in ("memory", "out")
    }
    return {"n_texts": n, "pairs": pairs, "throughput": ratios, "apart": apart}


def work(n: int, folder: Path | None) -> None:
    """Capture into a folder, in a process of its own, and print the peak above."""
    model, tokenizer = load(folder)
    # What every pass takes, whatever is kept of it.
    capture_activations(model, make_texts(200), tokenizer, batch_tokens=BATCH_TOKENS)
    texts, before = make_texts(n), forget_peak()
    with tempfile.TemporaryDirectory() as out:
        stack = capture_activations(
            model, texts, tokenizer, batch_tokens=BATCH_TOKENS, out=Path(out) / "a"
        )
        held = sum(layer.nbytes for layer in stack.layers) / 2**20
        peak = peak_mb()
    above = None if peak is None or before is None else peak - before
    print(json.dumps({"n_texts": n, "peak_mb": above, "activations_mb": held}))


def measure_memory(n: int, folder: Path | None) -> dict[str, Any]:
    own = [] if folder is None else ["--model", str(folder)]
    run = subprocess.run(
        [sys.executable, __file__, "--work", str(n), *own],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def report_markdown(results: dict[str, Any]) -> str:
    speed = results["speed"]
    seconds = {
        kind: median(pair[kind] for pair in speed["pairs"])
        for kind in speed["pairs"][0]
    }
    names = {"memory": "skleiden, in memory", "out": "skleiden, with out"}
    rows = [["bare loop", seconds["bare"], 1.0]]
    rows += [[names[k], seconds[k], speed["throughput"][k]] for k in names]
    tables = [
        f"{speed['n_texts']} texts; largest difference {speed['apart']:.1e}.\n",
        markdown_table(
            ["capture", "processor seconds", "throughput against the loop"], rows
        ),
        "",
        markdown_table(
            ["texts, with out", "activations, MB", "peak above the model, MB"],
            [
                [m["n_texts"], m["activations_mb"], m["peak_mb"]]
                for m in results["memory"]
            ],
        ),
    ]
    return "\n".join(tables)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Capture by skleiden and by a bare loop, side by side."
    )
    parser.add_argument("--model", type=Path, help="folder of a BERT-like model")
    parser.add_argument("--texts", type=int, default=N_TEXTS, help="texts (1000)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs (5)")
    parser.add_argument("--quick", action="store_true", help="100 texts, one pair")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work is not None:
        work(options.work, options.model)
        return
    n, repeats = (100, 1) if options.quick else (options.texts, options.repeats)
    import torch

    torch.set_num_threads(options.threads)
    model, tokenizer = load(options.model)
    results = {
        "environment": environment(),
        "threads": options.threads,
        "speed": compare(model, tokenizer, n, repeats),
        "memory": [measure_memory(m * n, options.model) for m in (2, 8)],
    }
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
