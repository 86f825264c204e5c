"""Run ``skleiden cluster``: find communities in files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from skleiden import LayerStack, io, model_selection, plotting, report
from skleiden._fitting import fitted_clusterer
from skleiden.inspection import Communities, _communities, community_tree, cross_table
from skleiden.inspection._features import CommunitySums
from skleiden.inspection._names import NO_WORDS
from skleiden.io._communities import jsonable

from ._input import (
    FEWER_LAYERS,
    LESS_TO_LOAD,
    add_input,
    load,
    load_texts,
    origin_of_ids,
)
from ._names import add_names, load_names, of_communities
from ._options import (
    a_path,
    add_estimators,
    add_jobs,
    add_rows,
    add_seed,
    make_pipeline,
    number_of_runs,
)
from ._output import (
    COMMUNITIES,
    LABELS,
    REPORT,
    TITLE,
    add_output,
    add_title,
    as_text,
    in_short,
    run_of,
    try_figure,
)
from ._progress import LESS_TO_CLUSTER, Stages
from ._run_folder import Run
from ._workers import workers_end_with_us

NEURONS = "neurons.csv"
FIGURES = ("sizes.png", "map.png", "prototypes.png", "layers.png", "drives.png")

# Lines that say which groups of neurons drive which communities, at most.
_MOST_LINES = 10

# What varies between runs that tell how well groups of neurons come again.
_OTHER_PROMPTS = {"subsample": None, "vary": "prompts"}

DESCRIPTION = """\
Find communities in activations, and save them into a folder: report.html, a page to
look at (if jinja2 is installed); labels.csv, the id and the community of each prompt;
communities.json, all that is known of them; figures (if matplotlib is installed); and
manifest.json, which names these files. With --rows neurons, communities are groups of
neurons, of all layers, that fire on the same prompts. With --rows both, both are found,
the groups go to neurons.csv, and the page tells which groups drive which communities.
The folder appears when everything is saved. Until then its files, labels.csv first,
are in DIR.partial beside it, where they stay if the command ends early.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_input(parser)
    parser.add_argument(
        "--texts",
        type=a_path,
        metavar="FILE",
        help="the prompts' texts, by id or in the order of the rows: torch, JSON, CSV, "
        "Parquet or plain lines",
    )
    add_names(parser)
    add_output(parser)
    add_rows(parser, "tokens", "both")
    parser.add_argument(
        "--n-runs",
        type=number_of_runs(1),
        default=1,
        metavar="N",
        help="how often to cluster; of several runs the most typical is kept, and they "
        "tell how sure the place of each prompt is",
    )
    parser.add_argument(
        "--n-subsamples",
        type=number_of_runs(2, 0),
        default=0,
        metavar="N",
        help="how many random subsamples to cluster as well, which tell how well each "
        "community is found again in them",
    )
    parser.add_argument(
        "--tree",
        action="store_true",
        help="also find communities within communities, from all prompts downwards, "
        "whatever --resolution or --n-clusters, and show them",
    )
    add_title(parser)
    add_estimators(parser)
    add_seed(parser)
    add_jobs(parser)


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    stage = Stages(quiet=options.quiet, bars=True)
    _check_rows(options)
    files = (LABELS, NEURONS, COMMUNITIES, REPORT, *FIGURES)
    with workers_end_with_us(), run_of(options, *files) as run:
        with stage("Load", LESS_TO_LOAD):
            stack = load(options)
            texts, names = load_texts(options, stack), load_names(options.names)
            first = stack.neurons() if options.rows == "neurons" else stack
            _try_saving(run, first, texts, origin_of_ids(options))
        found, sums = _cluster(options, run, stage, first, texts, LABELS, names)
        if options.rows == "both":
            neurons = stack.neurons()
            groups, _ = _cluster(options, run, stage, neurons, texts, NEURONS)
            with stage("Cross table", FEWER_LAYERS):
                table = cross_table(
                    found.labels,
                    groups.labels,
                    stack,
                    random_state=options.random_state,
                )
            found = replace(found, neuron_groups=groups, cross_table=table)
        if options.title is not None:
            found = replace(found, summary={**found.summary, TITLE: options.title})
        with stage("Save", FEWER_LAYERS):
            io.save_communities(run.folder / COMMUNITIES, found)
            run.add(COMMUNITIES)
            missing = [*_try_report(run, found), *_try_figures(run, found, sums)]
    _tell(options, found, stage, run, missing)
    return 0


def _check_rows(options: argparse.Namespace) -> None:
    """Refuse, before the work, options of layers if neurons are rows."""
    sketcher = make_pipeline(options, n_jobs=None, verbose=0)[0]
    of_layers = {
        "--n-components": np.ndim(sketcher.n_components) > 0,
        "--layer-weights": not isinstance(sketcher.layer_weights, str | None),
        "--center": sketcher.center,
    }
    given = [name for name, is_given in of_layers.items() if is_given]
    if given and options.rows in ("neurons", "both"):
        raise ValueError(
            f"{given[0]} applies to the layers of prompts, but --rows {options.rows} "
            "clusters neurons, which form one layer. Leave it out, or cluster prompts "
            "and neurons with separate commands."
        )


def _cluster(
    options: argparse.Namespace,
    run: Run,
    stage: Stages,
    stack: LayerStack,
    texts: list[str] | None,
    labels_file: str,
    names: dict[int, str] | None = None,
) -> tuple[Communities, CommunitySums]:
    """Find communities of the rows, save their labels, and describe them."""
    is_prompts = stack.row_layers is None
    of = "" if is_prompts or options.rows == "neurons" else " neurons"
    # Bars are of one fit.
    verbose = stage.verbose if options.n_runs == 1 else 0
    estimator: Any = make_pipeline(options, n_jobs=options.n_jobs, verbose=verbose)
    if options.n_runs > 1:
        estimator = model_selection.StableLeiden(
            estimator, n_runs=options.n_runs, random_state=options.random_state
        )
    with stage(f"Cluster{of}", LESS_TO_CLUSTER):
        labels = estimator.fit_predict(stack)
        known = Communities(
            labels,
            stack.ids,
            texts=texts if is_prompts else None,
            attached=fitted_clusterer(estimator).attached_,
            confidence=getattr(estimator, "confidence_", None),
        )
        io.save_labels(run.folder / labels_file, known)
        run.add(labels_file)
    stability = None
    if options.n_subsamples:
        # Neurons are all there are: it is other prompts that might find others.
        varied: dict[str, Any] = {} if is_prompts else _OTHER_PROMPTS
        with stage(f"Stability{of}", "lower --n-jobs"):
            stability = model_selection.community_stability(
                getattr(estimator, "estimator_", estimator),
                stack,
                n_runs=options.n_subsamples,
                n_jobs=options.n_jobs,
                random_state=options.random_state,
                **varied,
            )
    tree = None
    if options.tree and labels_file == LABELS:
        with stage("Tree", "leave out --tree"):
            tree = community_tree(
                estimator,
                texts=texts if is_prompts else None,
                random_state=options.random_state,
            )
    with stage(f"Inspect{of}", FEWER_LAYERS):
        found, sums = _communities.describe(
            estimator,
            stack,
            texts=texts,
            names=of_communities(names or {}, labels),
            tree=tree,
            rows="tokens" if options.rows == "tokens" else None,
            stability=stability,
            random_state=options.random_state,
        )
        io.save_labels(run.folder / labels_file, found)  # now with names
    return found, sums


def _tell(
    options: argparse.Namespace,
    found: Communities,
    stage: Stages,
    run: Run,
    missing: list[str],
) -> None:
    """Print the result."""
    groups, table = found.neuron_groups, found.cross_table
    if options.json:
        result = {
            **found.summary,
            "seconds": {name.lower(): round(s, 3) for name, s in stage.seconds.items()},
            "saved": run.saved,
            "not_saved": missing,
        }
        if groups is not None and table is not None:
            result |= {"neuron_groups": groups.summary, "drives": table.pairs()}
        print(json.dumps(jsonable(result)))
        return
    print(as_text(found))
    print(in_short(found))
    if groups is not None and table is not None:
        print(in_short(groups))
        lines = table.describe()
        more = len(lines) - _MOST_LINES
        for line in [*lines[:_MOST_LINES], *([f"and {more} more"] * (more > 0))]:
            print(line)
    print(stage.summary())
    for line in missing:
        print(line)
    print(f"Saved: {', '.join(run.saved)}")


def _try_saving(
    run: Run, stack: LayerStack, texts: list[str] | None, origin: str
) -> None:
    """Save what is known before the work, to fail at once if it cannot be saved."""
    saving = ((LABELS, io.save_labels), (COMMUNITIES, io.save_communities))
    try:
        known = Communities(np.full(len(stack), -1), stack.ids)
        for name, save in saving:
            save(run.folder / name, known)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{error} The ids are from {origin}.") from error
    layers = dict(zip(stack.names, stack.widths, strict=True))
    if stack.row_layers is None:
        known = replace(known, texts=texts)
    known = replace(known, summary={"layers": layers})
    io.save_communities(run.folder / COMMUNITIES, known)
    for name, _ in saving:
        (run.folder / name).unlink()


def _try_report(run: Run, found: Communities) -> list[str]:
    try:
        report.write_report(run.folder / REPORT, found, title=found.summary.get(TITLE))
    except ImportError as error:
        return [f"No page: {error}"]
    run.add(REPORT)
    return []


def _on_map(label: int, name: str) -> str:
    """Give a community's number, by which all figures are ordered, and a short name."""
    return str(label) if name == NO_WORDS else f"{label} {name.split(',')[0]}"


def _try_figures(run: Run, found: Any, sums: CommunitySums) -> list[str]:
    labels, table = found.labels, found.cross_table
    draw: dict[str, Callable[[], Any]] = {
        "sizes": lambda: plotting.CommunitySizesDisplay.from_predictions(labels),
        "map": lambda: plotting.CommunityMapDisplay(found.map, labels).plot(
            names={c: _on_map(c, name) for c, name in found.names.items()}
        ),
        "prototypes": lambda: plotting.PrototypeHeatmapDisplay._from_sums(sums),
    }
    if not found.layer_share:  # neurons are of one layer each
        agreement = found.layer_agreement
        draw["layers"] = lambda: plotting.LayerAgreementDisplay(agreement).plot()
    if table is not None:
        draw["drives"] = table.plot
    missing = (try_figure(run, name, display) for name, display in draw.items())
    # Each of them misses matplotlib, if it is missing.
    return list(dict.fromkeys(line for lines in missing for line in lines))
