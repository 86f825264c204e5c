"""``skleiden cluster``, ``profile`` and ``report``: the same for a user's files."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ._options import add_estimators, add_input, make_pipeline
from ._stages import Stages

LABELS, COMMUNITIES, REPORT = "labels.csv", "communities.json", "report.html"
FIGURES = ("sizes.png", "map.png", "prototypes.png", "layers.png")
OUTPUTS = (COMMUNITIES, REPORT, *FIGURES)
TITLE = "title"

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
        default=argparse.SUPPRESS,
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
    _add_title(parser)
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
    add_estimators(parser, leave_out=["resolution"])
    parser.set_defaults(run=_run_profile)


def add_report(commands: Any) -> None:
    """Add the command that writes the page again."""
    parser = _parser(commands, "report", "write the page of saved communities", _REPORT)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="what `skleiden cluster --out` made"
    )
    _add_title(parser)
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


def _add_title(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--title", default=argparse.SUPPRESS, help="of the page")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder to save into; made if it is not there",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, for programs"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _run_cluster(options: argparse.Namespace) -> int:
    from skleiden.inspection import Communities, describe_communities
    from skleiden.io import save_communities, save_labels
    from skleiden.model_selection import StableLeiden, community_stability

    stage = Stages(quiet=options.quiet, bars=True)
    saved: list[Path] = []
    with (
        _folder(options.out, LABELS, COMMUNITIES, REPORT) as folder,
        _told_if_interrupted(saved),
    ):
        with stage("Load"):
            stack = _load(options)
            texts = _load_texts(options, stack)
        estimator: Any = make_pipeline(options, n_jobs=options.n_jobs)
        if options.n_runs > 1:
            estimator = StableLeiden(
                estimator, n_runs=options.n_runs, random_state=options.random_state
            )
        with stage("Cluster"):
            labels = estimator.fit_predict(stack)
        # What is left of an earlier run would contradict the new labels.
        for name in OUTPUTS:
            (folder / name).unlink(missing_ok=True)
        confidence = getattr(estimator, "confidence_", None)
        known = Communities(labels, stack.ids, confidence=confidence)
        save_labels(folder / LABELS, known)
        saved.append(folder / LABELS)
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
            if hasattr(options, "title"):
                found = replace(found, summary={**found.summary, TITLE: options.title})
        with stage("Save"):
            save_communities(folder / COMMUNITIES, found)
            saved.append(folder / COMMUNITIES)
            missing = _try_report(folder, found, saved)
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
    from skleiden.io._files import as_csv, write_whole
    from skleiden.model_selection import resolution_profile

    resolutions = _resolutions(options.resolutions)
    stage = Stages(quiet=options.quiet, bars=True)
    with _folder(options.out, "profile.csv") as folder:
        with stage("Load"):
            stack = _load(options)
        with stage("Sweep"), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            profile = resolution_profile(
                make_pipeline(options, n_jobs=None),
                stack,
                resolutions=resolutions,
                n_runs=options.n_runs,
                n_sketches=options.n_sketches,
                n_permutations=options.n_permutations,
                n_jobs=options.n_jobs,
                random_state=options.random_state,
                verbose=int(not options.quiet and sys.stderr.isatty()),
            )
        columns = {name: values.tolist() for name, values in profile.table.items()}
        saved, missing = [folder / "profile.csv"], []
        write_whole(saved[0], as_csv(columns))
        with _told_if_interrupted(saved):
            try:
                _save_figure(folder / "profile.png", profile.plot(), saved)
            except ImportError as error:
                missing.append(f"No figure: {error}")
    for one in told:
        warnings.warn(one.message, one.category, stacklevel=1)
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
    else:
        names = ("resolution", "n_clusters", "stability", "null", "net_information")
        print("  ".join(f"{name:>15}" for name in names))
        for row in zip(*(columns[name] for name in names), strict=True):
            print("  ".join(f"{value:>15.3g}" for value in row))
        levels = ", ".join(f"{level:.3g}" for level in profile.levels) or "none"
        print(f"Levels, of locally highest stability: {levels}")
        if best is None:
            print(f"Best: none. {reason}")
        else:
            print(f"Best, by net information: --resolution {best:.3g}")
        for line in missing:
            print(line)
        print(f"Saved: {', '.join(map(str, saved))}")
    # The profile holds what was done; whoever asked for all of it must know.
    interrupted = any(str(one.message).startswith("Interrupted") for one in told)
    return 130 if interrupted else 0


def _run_report(options: argparse.Namespace) -> int:
    from skleiden.io import load_communities
    from skleiden.report import write_report

    if not options.folder.is_dir():
        raise NotADirectoryError(
            f"{str(options.folder)!r} is no folder. Give the one that was the --out of "
            "skleiden cluster."
        )
    found = load_communities(options.folder / COMMUNITIES)
    path = options.folder / REPORT
    title = getattr(options, "title", found.summary.get(TITLE))
    write_report(path, found, title=title)
    print(json.dumps({"saved": [str(path)]}) if options.json else f"Saved: {path}")
    return 0


def _load(options: argparse.Namespace) -> Any:
    from skleiden.io import load_activations

    return load_activations(
        options.files if len(options.files) > 1 else options.files[0],
        key=options.key,
        layers=options.layers.split(",") if hasattr(options, "layers") else None,
        ids=getattr(options, "ids", None),
    )


def _load_texts(options: argparse.Namespace, stack: Any) -> list[str] | None:
    """The texts, one for each row, before the work rather than after it."""
    from skleiden.inspection._communities import texts_of
    from skleiden.io import load_texts

    if not hasattr(options, "texts"):
        return None
    if stack.ids is None:
        raise ValueError(
            "--texts are found by ids, and the files have none. Name the rows by --ids."
        )
    return texts_of(load_texts(options.texts), stack.ids)


@contextmanager
def _folder(folder: Path, *names: str) -> Iterator[Path]:
    """The folder, made, and tried before the work; gone if nothing comes of it."""
    from skleiden.io._files import check_place

    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is a file. Give a folder as --out.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            check_place(folder / name)
        yield folder
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@contextmanager
def _told_if_interrupted(saved: list[Path]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        files = ", ".join(str(path) for path in saved if path.exists())
        raise KeyboardInterrupt(f"Saved until then: {files or 'nothing'}") from None


def _try_report(folder: Path, found: Any, saved: list[Path]) -> list[str]:
    from skleiden.report import write_report

    try:
        write_report(folder / REPORT, found, title=found.summary.get(TITLE))
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
