r"""Compare how near to the labels each method comes without seeing them, on all data.

    python benchmarks/bench_quality.py prompts trivia.npz evals.npz smol.npz \
        --rows 4000 --envs environments --texts trivia=red_discordbot-*.whl \
        --texts smol=trivia:red_discordbot-*.whl --texts evals=evals-*.whl
    python benchmarks/bench_quality.py prompts --quick

A data set is "prompts", the activations that come with skleiden, or an npz file that
`make_text_activations.py` makes. The methods are

- skleiden: sketch and clusterer with nothing set;
- skleiden, chosen: `resolution_profile` with ``vary=["all", "neurons"]`` for each
  candidate of `bench_choice.py`; the one is taken whose runs, each with half of the
  neurons, share the most information. No label is seen;
- notebook: the whole recipe of `notebook_recipe.py`, to which signed layers are given
  as their positive part, because it knows no others;
- the peers of `bench_peers.py`, each in its environment below ``--envs``, on the
  vectors that skleiden's sketch makes with equal weights for all layers;
- sentences: the sentence embeddings that MiniLM itself makes of the same texts, and
  skleiden's clusterer on them, as a different approach. It needs the texts: those of
  "prompts" come with skleiden, others are given by ``--texts NAME=[KIND:]WHEEL``, for
  the kinds of `make_text_activations.py`.

In a cell, AMI and ARI (adjusted mutual information and adjusted Rand index, with the
labels) are those at the method's own setting; those after "best" are at that of a few
settings whose AMI is the highest, by the labels: resolutions, sizes of clusters, or
candidates. Both are means of three seeds, but for peers, which have one. Seconds are of
one run at the own setting, from activations or, for peers and sentences, from vectors;
of the choice, of all that it takes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import bench_choice
import bench_peers
import notebook_recipe as recipe
import numpy as np
from bench_peers import METHODS, RESOLUTIONS, score
from bench_pipeline import RANDOM_STATE, describe, environment, markdown_table
from bench_resolution import load
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.model_selection._runs import summarize_run

SEEDS = range(3)
PEERS = ["scanpy", "phenograph", "evoc", "bertopic", "tritopic"]
TITLES = {
    "skleiden": "skleiden",
    "chosen": "skleiden, chosen by neurons",
    "notebook": "notebook",
    "sentences": "sentence embeddings, skleiden's clusterer",
} | {peer: METHODS[peer].title for peer in PEERS}

# What a method finds with a seed: the labels at a setting.
Fitted = Callable[[Any], Any]


# ----------------------------------------------------------------------------- methods


def at_seeds(
    fit: Callable[[int], Fitted], settings: Sequence[Any], labels: np.ndarray
) -> dict[str, Any]:
    """Score a method at some settings, its own the first; means over seeds."""
    seconds, scores = [], []
    for seed in SEEDS:
        start = perf_counter()
        at = fit(seed)
        first = at(settings[0])
        seconds.append(perf_counter() - start)
        rest = (at(setting) for setting in settings[1:])
        scores.append(
            [score(labels, np.asarray(one).tolist()) for one in (first, *rest)]
        )
    means = [
        {"setting": setting}
        | {key: float(np.mean([s[key] for s in of])) for key in of[0]}
        for setting, of in zip(settings, zip(*scores, strict=True), strict=True)
    ]
    return summary(float(np.median(seconds)), means)


def summary(seconds: float, settings: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the own setting, which is the first, and the best by the labels."""
    best = max(settings, key=lambda one: one["ami"])
    return {"seconds": seconds, "default": settings[0], "best": best}


def skleiden(X: Any, labels: np.ndarray) -> dict[str, Any]:
    def fit(seed: int) -> Fitted:
        vectors = MultiLayerTfidfSketcher(random_state=seed).fit_transform(X)
        return of_vectors(vectors, seed)

    return at_seeds(fit, RESOLUTIONS, labels)


def of_vectors(vectors: np.ndarray, seed: int) -> Fitted:
    return lambda resolution: MutualKNNLeiden(
        resolution=resolution, random_state=seed
    ).fit_predict(vectors)


def chosen(X: Any, labels: np.ndarray, quick: bool) -> dict[str, Any]:
    """Choose among the candidates without the labels, and by them."""
    found: list[tuple[float, dict[str, Any]]] = []
    seconds = 0.0
    for parameters, k in bench_choice.candidates(len(X.layers), quick):
        pipeline = make_pipeline(
            MultiLayerTfidfSketcher(**parameters), MutualKNNLeiden(k)
        )
        start = perf_counter()
        halves = bench_choice.profile(pipeline, X, ["all", "neurons"])
        seconds += perf_counter() - start
        whole = bench_choice.profile(pipeline, X, "all")
        for resolution in bench_choice.RESOLUTIONS:
            runs = [summarize_run(one) for one in halves.partitions(resolution)]
            rank = bench_choice.scores(runs)["shared information"]
            of = [score(labels, one.tolist()) for one in whole.partitions(resolution)]
            entry = {key: float(np.mean([s[key] for s in of])) for key in of[0]}
            setting = parameters | {"k": k, "resolution": resolution}
            found.append((rank, {"setting": setting} | entry))
    found.sort(key=lambda one: -one[0])
    return summary(seconds, [entry for _, entry in found])


def notebook(X: Any, labels: np.ndarray) -> dict[str, Any]:
    layers = [
        layer if not isinstance(layer, np.ndarray) else np.maximum(layer, 0)
        for layer in X.layers
    ]

    def fit(seed: int) -> Fitted:
        edges = recipe.mutual_edges(recipe.neighbors(recipe.sketch(layers, seed=seed)))
        return lambda resolution: recipe.leiden(
            edges, len(labels), resolution=resolution, seed=seed
        )[0]

    return at_seeds(fit, RESOLUTIONS, labels)


def sentences(texts: Sequence[str], labels: np.ndarray) -> dict[str, Any]:
    vectors = sentence_vectors(texts)
    return at_seeds(lambda seed: of_vectors(vectors, seed), RESOLUTIONS, labels)


def sentence_vectors(texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """MiniLM's embeddings of texts: the mean over the tokens of its last layer."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from make_text_activations import MAX_TOKENS, load_minilm

    model, tokenizer = load_minilm()
    order = np.argsort([len(text) for text in texts])
    vectors = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(texts), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer(
            [texts[row] for row in rows],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return vectors


def peers(
    X: Any, labels: np.ndarray, names: Sequence[str], envs: Path | None, timeout: float
) -> dict[str, dict[str, Any]]:
    sketcher = MultiLayerTfidfSketcher(layer_weights=None, random_state=RANDOM_STATE)
    vectors = np.asarray(sketcher.fit_transform(X))
    found, _ = bench_peers.compare(
        vectors, labels, methods=names, repeats=1, envs=envs, timeout=timeout
    )
    return found


# --------------------------------------------------------------------------- reporting


def texts_of(name: str, given: dict[str, str], labels: np.ndarray) -> list[str] | None:
    """Give the texts of a data set, None where they are not given."""
    if name == "prompts":
        from skleiden.datasets import load_prompt_activations

        return list(load_prompt_activations().prompts)
    if name not in given:
        return None
    from make_text_activations import read_texts

    kind, _, wheel = given[name].rpartition(":")
    texts, of_texts = read_texts(kind or name, Path(wheel))
    if not np.array_equal(of_texts[: len(labels)], labels):
        raise ValueError(
            f"The texts of {wheel} are not those of {name}, in whose order they must "
            f"be: their labels differ. Make {name} by make_text_activations.py."
        )
    return texts[: len(labels)]


def cell(found: dict[str, Any] | None) -> str:
    if not found or "best" not in found:
        return "-"
    own, best = found["default"], found["best"]
    return (
        f"{own['ami']:.3f} {own['ari']:.3f}, best {best['ami']:.3f} {best['ari']:.3f}; "
        f"{found['seconds']:.3g} s"
    )


def report(results: dict[str, Any]) -> str:
    """Show AMI and ARI of each method on each data set, and the mean AMI."""
    data = results["data"]
    rows = []
    for method, title in TITLES.items():
        found = [one["methods"].get(method) for one in data]
        amis = [
            [of[which]["ami"] for of in found if of and which in of]
            for which in ("default", "best")
        ]
        if amis[0]:
            whole = len(amis[0]) == len(data)
            means = ", best ".join(f"{np.mean(ami):.3f}" for ami in amis)
            rows.append([title, *map(cell, found), means if whole else None])
    names = [f"{one['name']}: AMI ARI" for one in data]
    lines = [markdown_table(["", *names, "mean AMI"], rows)]
    for one in data:
        choice = one["methods"].get("chosen")
        if choice:
            lines.append(f"Chosen on {one['name']}: {choice['default']['setting']}.")
        lines += [
            f"{TITLES[method]} failed on {one['name']}: {found['failed']}"
            for method, found in one["methods"].items()
            if "failed" in found
        ]
    return "\n\n".join([*lines, describe(results["environment"])])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", default=["prompts"])
    parser.add_argument("--quick", action="store_true", help="600 rows, a small grid")
    parser.add_argument("--methods", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--rows", type=int, help="number of random rows (all)")
    parser.add_argument("--texts", action="append", default=[], metavar="NAME=WHEEL")
    parser.add_argument("--envs", type=Path, help="folder of the environments")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for a peer")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    options = parser.parse_args(arguments)
    n_rows = options.rows or (600 if options.quick else None)
    given = dict(text.split("=", 1) for text in options.texts)
    results: dict[str, Any] = {"environment": environment(), "data": []}
    for path in options.data:
        name = Path(path).stem
        try:
            X, labels = load(path)
            texts = texts_of(name, given, labels)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:n_rows])
        X, labels = X[rows], labels[rows]
        of = {
            "skleiden": lambda X=X, labels=labels: skleiden(X, labels),
            "chosen": lambda X=X, labels=labels: chosen(X, labels, options.quick),
            "notebook": lambda X=X, labels=labels: notebook(X, labels),
        }
        if texts is not None:
            kept = [texts[row] for row in rows]
            of["sentences"] = lambda kept=kept, labels=labels: sentences(kept, labels)
        methods: dict[str, Any] = {}
        for method in of:
            if method in options.methods:
                methods[method] = of[method]()
                print(name, method, cell(methods[method]), file=sys.stderr, flush=True)
        asked = [peer for peer in PEERS if peer in options.methods]
        methods |= peers(X, labels, asked, options.envs, options.timeout)
        results["data"].append({"name": name, "rows": len(labels), "methods": methods})
        if options.output:  # after each, so that little is lost if a later one fails
            options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2) if options.json else report(results))


if __name__ == "__main__":
    main()
