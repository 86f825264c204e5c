"""The command ``skleiden``."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    import numpy as np

    from .inspection import TopFeature

_DEMO = """\
Find communities among prompts by what a language model's neurons do, on data that
comes with the package: MLP activations of the six layers of MiniLM, and each prompt's
theme, which the clustering does not see. Prints the communities with some of their
prompts and the neurons that set them apart, their agreement with the themes, and how
long each stage took; saves everything as JSON.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        _prepare_streams()
        options = _parser().parse_args(arguments)
        code = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone. Python would fail once
        # more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        problem = f"skleiden: error: Not enough memory; lower --n-components. {error}"
        print(problem.strip(), file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"skleiden: error: {error}", file=sys.stderr)
        return 1
    return code


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as with >&-: nobody listens
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
        # A prompt may have letters that the terminal's encoding lacks.
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skleiden",
        description="Find communities in high-dimensional, multi-layer data.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="find communities in the embedded activations of a language model",
        description=_DEMO,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("communities.json"),
        metavar="FILE",
        help="where to save the communities; an existing file is replaced",
    )
    demo.add_argument(
        "--resolution",
        type=_positive(float),
        default=1.0,
        metavar="R",
        help="the larger, the more and smaller the communities",
    )
    demo.add_argument(
        "--n-neighbors",
        type=_positive(int),
        default=40,
        metavar="K",
        help="neighbours of each prompt",
    )
    demo.add_argument(
        "--n-components",
        type=_positive(int),
        default=64,
        metavar="D",
        help="columns of the embedding for each layer",
    )
    demo.add_argument(
        "--weighting",
        choices=["idf", "zscore", "none"],
        default="idf",
        help="weighting of the neurons",
    )
    demo.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="seed of everything random"
    )
    demo.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, only the result"
    )
    demo.set_defaults(run=_demo)
    return parser


def _positive(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be above 0; got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse's "invalid float value"
    return parse


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1; got {text}")
    return seed


_seed.__name__ = "int"


def _demo(options: argparse.Namespace) -> int:
    # Imported here, inside the `try` of main: it takes about a second, in which a user
    # may press Ctrl-C.
    import numpy as np
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
    from sklearn.pipeline import Pipeline

    from .clusterer import MutualKNNLeiden
    from .datasets import load_prompt_activations
    from .inspection import top_features
    from .io import check_place, save_communities
    from .sketcher import MultiLayerTfidfSketcher

    check_place(options.output)  # before the work, not after it
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        if not options.quiet:
            print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        start = time.perf_counter()
        outcome = "stopped"
        try:
            yield
            seconds[name] = time.perf_counter() - start
            outcome = f"{seconds[name]:.2f} s"
        finally:
            if not options.quiet:
                print(outcome, file=sys.stderr)

    with stage("Load"):
        data = load_prompt_activations()
    pipeline = Pipeline(
        [
            (
                "sketch",
                MultiLayerTfidfSketcher(
                    n_components=options.n_components,
                    weighting=options.weighting,
                    random_state=options.seed,
                    n_jobs=-1,
                ),
            ),
            (
                "leiden",
                MutualKNNLeiden(
                    n_neighbors=options.n_neighbors,
                    resolution=options.resolution,
                    random_state=options.seed,
                ),
            ),
        ]
    )
    with stage("Sketch"):
        embedding = pipeline["sketch"].fit_transform(data.data)
    with stage("Cluster"):
        labels = pipeline["leiden"].fit_predict(embedding)
    with stage("Inspect"):
        neurons = top_features(data.data, labels, n_features=10)
    with stage("Save"):
        save_communities(
            options.output,
            labels,
            ids=data.ids,
            texts=data.prompts,
            top_features=neurons,
            parameters=pipeline.get_params(deep=True),
        )
    clusterer = pipeline["leiden"]
    print(_table(labels, data.prompts, neurons))
    n_noise = int(np.count_nonzero(labels < 0))
    print(
        f"{labels.size} prompts, {clusterer.n_clusters_} communities, {n_noise} "
        f"prompts in none; modularity {clusterer.modularity_:.3f}"
    )
    print(
        f"Agreement with the {len(data.target_names)} themes, which were not used: "
        f"AMI {adjusted_mutual_info_score(data.target, labels):.3f}, "
        f"ARI {adjusted_rand_score(data.target, labels):.3f}"
    )
    stages = ", ".join(f"{name.lower()} {value:.2f}" for name, value in seconds.items())
    print(f"Seconds: {stages}; in all {sum(seconds.values()):.2f}")
    print(f"Saved: {options.output}")
    return 0


def _table(
    labels: np.ndarray, prompts: np.ndarray, neurons: dict[int, list[TopFeature]]
) -> str:
    """Each community's size, three strongest neurons and three prompts."""
    import numpy as np

    from .inspection import members

    width = max(60, min(shutil.get_terminal_size().columns, 100))
    indent = " " * 18
    lines = [
        f"{'community':>9}  {'size':>5}  strongest neurons (layer:neuron), prompts"
    ]
    for label, rows in members(labels, min_size=1).items():
        names = [f"{found.layer}:{found.neuron}" for found in neurons[label][:3]]
        lines.append("-" * width)
        lines.append(f"{label:>9}  {rows.size:>5}  {', '.join(names)}")
        # Spread over the community, because neighbouring rows may be of one kind.
        shown = rows[np.linspace(0, rows.size - 1, min(3, rows.size)).astype(int)]
        for prompt in prompts[shown]:
            text = textwrap.shorten(
                str(prompt), width - len(indent), placeholder=" ..."
            )
            lines.append(indent + text)
    lines.append("-" * width)
    return "\n".join(lines)
