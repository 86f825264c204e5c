"""``skleiden cluster``, ``profile`` and ``report``: the same for a user's files."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._options import add_estimators, add_input, make_pipeline
from ._stages import Stages

LABELS, COMMUNITIES, REPORT = "labels.csv", "communities.json", "report.html"

_CLUSTER = """\
Find communities in activations, one file a layer, and save into a folder: labels.csv
(id and community of each prompt), as soon as they are found; communities.json (all that
is known of them); report.html (a page to look at, if jinja2 is installed); and figures
(if matplotlib is).
"""
_PROFILE = """\
Sweep the resolution, and tell what can be relied on at each: how well runs with other
seeds agree, and how well on permuted data. Saves profile.csv, and a figure (if
matplotlib is installed).
"""
_REPORT = """\
Write report.html anew from the communities.json of a folder.
"""


def add_cluster(commands: Any) -> None:
    """Add the command that finds communities."""
    parser = _parser(commands, "cluster", "find communities in activations", _CLUSTER)
    add_input(parser)
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="the prompts' texts, {id: text}: torch, JSON or CSV",
    )
    _add_output(parser)
    parser.add_argument(
        "--n-runs",
        type=int,
        default=1,
        metavar="N",
        help="cluster so often, keep the most typical, and rate each prompt's place",
    )
    parser.add_argument(
        "--n-subsamples",
        type=int,
        default=0,
        metavar="N",
        help="cluster so many subsamples, and rate how well each community survives",
    )
    parser.add_argument("--title", help="of the page")
    add_estimators(parser)
    parser.set_defaults(run=_run_cluster)


def add_profile(commands: Any) -> None:
    """Add the command that sweeps the resolution."""
    parser = _parser(commands, "profile", "find a resolution to rely on", _PROFILE)
    add_input(parser)
    _add_output(parser)
    parser.add_argument(
        "--resolutions",
        default="20",
        metavar="N or R,R,...",
        help="how many, over a range that is found; or which",
    )
    for name, default, what in (
        ("--n-runs", 5, "partitions of each resolution"),
        ("--n-sketches", 1, "sketches that these are spread over"),
        ("--n-permutations", 3, "copies with permuted columns, for the null"),
    ):
        parser.add_argument(name, type=int, default=default, metavar="N", help=what)
    add_estimators(parser)
    parser.set_defaults(run=_run_profile)


def add_report(commands: Any) -> None:
    """Add the command that writes the page again."""
    parser = _parser(commands, "report", "write the page of saved communities", _REPORT)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--title", help="of the page")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run_report)


def _parser(
    commands: Any, name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to save into; made if it is not there",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, for programs"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _run_cluster(options: argparse.Namespace) -> int:
    from skleiden.inspection import Communities, describe_communities
    from skleiden.io import load_texts, save_communities, save_labels
    from skleiden.model_selection import StableLeiden, community_stability

    folder = _make_folder(options.out, LABELS, COMMUNITIES, REPORT)
    stage = Stages(quiet=options.quiet, bars=True)
    with stage("Load"):
        stack = _load(options)
        texts = None if options.texts is None else load_texts(options.texts)
    estimator: Any = make_pipeline(options, n_jobs=options.n_jobs)
    if options.n_runs > 1:
        estimator = StableLeiden(
            estimator, n_runs=options.n_runs, random_state=options.random_state
        )
    with stage("Cluster"):
        labels = estimator.fit_predict(stack)
    saved = [folder / LABELS]
    with _told_if_interrupted(saved):
        ids = stack.ids
        confidence = getattr(estimator, "confidence_", None)
        save_labels(saved[0], Communities(labels, ids, confidence=confidence))
        stability = None
        if options.n_subsamples > 0:
            with stage("Stability"):
                stability = community_stability(
                    getattr(estimator, "estimator_", estimator),
                    stack,
                    n_runs=options.n_subsamples,
                    n_jobs=options.n_jobs,
                    random_state=options.random_state,
                )
        with stage("Inspect"):
            found = describe_communities(
                estimator,
                stack,
                texts=texts,
                stability=stability,
                random_state=options.random_state,
            )
        with stage("Save"):
            save_communities(folder / COMMUNITIES, found)
            saved.append(folder / COMMUNITIES)
            missing = _try_report(folder, found, options.title, saved)
            missing += _try_figures(folder, found, stack, saved)
    result = {
        **found.summary,
        "seconds": {name.lower(): round(s, 3) for name, s in stage.seconds.items()},
        "saved": [str(path) for path in saved],
        "not_saved": missing,
    }
    if options.json:
        print(json.dumps(result, default=float))
        return 0
    facts = found.summary
    print(
        f"{facts['n_samples']} prompts, {facts['n_communities']} communities, "
        f"{facts['n_noise']} prompts in none; modularity {facts['modularity']:.3f}"
    )
    print(stage.summary())
    for line in missing:
        print(line)
    print(f"Saved: {', '.join(result['saved'])}")
    return 0


def _run_profile(options: argparse.Namespace) -> int:
    from skleiden.io._files import write_whole
    from skleiden.model_selection import resolution_profile

    folder = _make_folder(options.out, "profile.csv")
    stage = Stages(quiet=options.quiet, bars=True)
    with stage("Load"):
        stack = _load(options)
    with stage("Sweep"):
        profile = resolution_profile(
            make_pipeline(options, n_jobs=None),
            stack,
            resolutions=_resolutions(options.resolutions),
            n_runs=options.n_runs,
            n_sketches=options.n_sketches,
            n_permutations=options.n_permutations,
            n_jobs=options.n_jobs,
            random_state=options.random_state,
            verbose=int(not options.quiet),
        )
    columns = {name: values.tolist() for name, values in profile.table.items()}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    saved, missing = [folder / "profile.csv"], []
    write_whole(saved[0], table.getvalue())
    with _told_if_interrupted(saved):
        try:
            _save_figure(folder / "profile.png", profile.plot(), saved)
        except ImportError as error:
            missing.append(f"No figure: {error}")
    try:
        best, reason = profile.best(), None
    except ValueError as error:
        best, reason = None, str(error)
    if options.json:
        plain = {
            name: [None if v != v else v for v in values]  # nan is no JSON
            for name, values in columns.items()
        }
        result = {
            "table": plain,
            "levels": profile.levels,
            "best": best,
            "saved": [str(path) for path in saved],
            "not_saved": missing,
        }
        print(json.dumps(result))
        return 0
    names = ("resolution", "n_clusters", "stability", "null", "net_information")
    print("  ".join(f"{name:>15}" for name in names))
    for row in zip(*(columns[name] for name in names), strict=True):
        print("  ".join(f"{value:>15.3g}" for value in row))
    print(f"Levels: {', '.join(f'{level:.3g}' for level in profile.levels) or 'none'}")
    print(f"Best: --resolution {best:.3g}" if best else f"Best: none. {reason}")
    for line in missing:
        print(line)
    print(f"Saved: {', '.join(map(str, saved))}")
    return 0


def _run_report(options: argparse.Namespace) -> int:
    from skleiden.io import load_communities
    from skleiden.report import write_report

    found = load_communities(options.folder / COMMUNITIES)
    path = options.folder / REPORT
    write_report(path, found, title=options.title)
    print(json.dumps({"saved": [str(path)]}) if options.json else f"Saved: {path}")
    return 0


def _load(options: argparse.Namespace) -> Any:
    from skleiden.io import load_activations

    return load_activations(
        options.files if len(options.files) > 1 else options.files[0],
        key=options.key,
        layers=None if options.layers is None else options.layers.split(","),
        ids=options.ids,
    )


def _make_folder(folder: Path, *names: str) -> Path:
    """The folder, made, and tried before the work, not after it."""
    from skleiden.io._files import check_place

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        check_place(folder / name)
    return folder


@contextmanager
def _told_if_interrupted(saved: list[Path]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        files = ", ".join(str(path) for path in saved if path.exists())
        raise KeyboardInterrupt(f"Saved until then: {files or 'nothing'}") from None


def _try_report(
    folder: Path, found: Any, title: str | None, saved: list[Path]
) -> list[str]:
    from skleiden.report import write_report

    try:
        write_report(folder / REPORT, found, title=title)
    except ImportError as error:
        return [f"No page: {error}"]
    saved.append(folder / REPORT)
    return []


def _try_figures(folder: Path, found: Any, stack: Any, saved: list[Path]) -> list[str]:
    from skleiden import plotting

    labels = found.labels
    draw: dict[str, Callable[[], Any]] = {
        "sizes": lambda: plotting.CommunitySizesDisplay.from_predictions(labels),
        "map": lambda: plotting.CommunityMapDisplay(found.map, labels).plot(),
    }
    if found.summary["n_communities"] > 0:
        draw["prototypes"] = lambda: plotting.PrototypeHeatmapDisplay.from_predictions(
            stack, labels
        )
        draw["layers"] = lambda: plotting.LayerAgreementDisplay(
            found.layer_agreement
        ).plot()
    for name, display in draw.items():
        try:
            _save_figure(folder / f"{name}.png", display(), saved)
        except ImportError as error:
            return [f"No figures: {error}"]
    return []


def _save_figure(path: Path, display: Any, saved: list[Path]) -> None:
    from skleiden.io._files import write_whole
    from skleiden.plotting import png

    write_whole(path, png(display))
    saved.append(path)


def _resolutions(text: str) -> Any:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            "--resolutions must be a number of resolutions, or resolutions with commas "
            f"between them; got {text!r}."
        ) from None
    if len(values) == 1 and "," not in text and values[0] == int(values[0]):
        return int(values[0])
    return values
