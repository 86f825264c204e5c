"""``skleiden cluster``, ``profile`` and ``report``: the same for a user's files."""

from __future__ import annotations

import argparse
import glob
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skleiden._text import encodable

from ._options import add_estimators, add_input, make_pipeline
from ._stages import Stages
from ._workers import workers_end_with_us

if TYPE_CHECKING:
    from ._run_folder import Run

LABELS, COMMUNITIES, REPORT = "labels.csv", "communities.json", "report.html"
FIGURES = ("sizes.png", "map.png", "prototypes.png", "layers.png")
PROFILE = ("profile.csv", "profile.png")
TITLE = "title"

# What takes less memory in a stage.
LESS_TO_LOAD = (
    "choose fewer layers by --layers, or save them in a form that is not read as a "
    "whole, such as .npy"
)
LESS_TO_CLUSTER = "lower --n-components, --n-neighbors or --n-jobs"

_CLUSTER = """\
Find communities in activations, one file a layer, and save into a folder: labels.csv
(id and community of each prompt), as soon as they are found; communities.json (all that
is known of them); report.html (a page to look at, if jinja2 is installed); figures (if
matplotlib is); and manifest.json, which names these files. The folder is there when all
is saved. Until then the files are in a folder beside it, DIR.partial, where they stay
if the command ends before.
"""
_PROFILE = """\
Sweep the resolution, and tell what can be relied on at each: how well runs with other
seeds agree, and how well on permuted data. Saves profile.csv, and a figure (if
matplotlib is installed), into a folder with a manifest.json that names them, as
`skleiden cluster` does.
"""
_REPORT = """\
Write report.html anew from the communities.json of a folder that `skleiden cluster`
made.
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
    parser.set_defaults(run=_run_cluster, command="cluster")


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
    parser.set_defaults(run=_run_profile, command="profile")


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
    parser.add_argument(
        "--title", type=encodable, default=argparse.SUPPRESS, help="of the page"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder to save into: a new or an empty one, or an earlier run's",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier run of the same command, as a whole",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, for programs"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _run_cluster(options: argparse.Namespace) -> int:
    from skleiden.inspection import Communities, describe_communities
    from skleiden.io import save_communities, save_labels
    from skleiden.io._communities import jsonable
    from skleiden.model_selection import StableLeiden, community_stability

    stage = Stages(quiet=options.quiet, bars=True)
    names = (LABELS, COMMUNITIES, REPORT, *FIGURES)
    with workers_end_with_us(), _new_run(options, *names) as run:
        with stage("Load", LESS_TO_LOAD):
            stack = _load(options)
            texts = _load_texts(options, stack)
            _try_saving(run, stack, texts, _origin_of_ids(options))
        estimator: Any = make_pipeline(options, n_jobs=options.n_jobs)
        if options.n_runs > 1:
            estimator = StableLeiden(
                estimator, n_runs=options.n_runs, random_state=options.random_state
            )
        with stage("Cluster", LESS_TO_CLUSTER):
            labels = estimator.fit_predict(stack)
        confidence = getattr(estimator, "confidence_", None)
        known = Communities(labels, stack.ids, confidence=confidence)
        save_labels(run.folder / LABELS, known)
        run.add(LABELS)
        stability = None
        if options.n_subsamples > 0:
            with stage("Stability", "lower --n-jobs"):
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
            save_communities(run.folder / COMMUNITIES, found)
            run.add(COMMUNITIES)
            missing = [*_try_report(run, found), *_try_figures(run, found, stack)]
    result = {
        **found.summary,
        "seconds": {name.lower(): round(s, 3) for name, s in stage.seconds.items()},
        "saved": run.saved,
        "not_saved": missing,
    }
    if options.json:
        print(json.dumps(jsonable(result)))
        return 0
    facts = found.summary
    print(
        f"{facts['n_samples']} prompts, {facts['n_communities']} communities, "
        f"{facts['n_noise']} prompts in none; modularity {facts['modularity']:.3f}"
        f"{'' if facts['n_edges'] else '; the graph has no edges'}"
    )
    print(stage.summary())
    for line in missing:
        print(line)
    print(f"Saved: {', '.join(run.saved)}")
    return 0


def _run_profile(options: argparse.Namespace) -> int:
    from skleiden.io._csv import as_csv
    from skleiden.model_selection import resolution_profile

    resolutions = _resolutions(options.resolutions)
    stage = Stages(quiet=options.quiet, bars=True)
    with workers_end_with_us(), _new_run(options, *PROFILE) as run:
        with stage("Load", LESS_TO_LOAD):
            stack = _load(options)
        with (
            stage("Sweep", LESS_TO_CLUSTER),
            warnings.catch_warnings(record=True) as told,
        ):
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
        run.write("profile.csv", as_csv(columns))
        # A part of what was asked for is kept, and replaces no whole run.
        run.finished = not any(
            str(one.message).startswith("Interrupted") for one in told
        )
        missing = _try_figure(run, "profile", profile.plot)
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
            "saved": run.saved,
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
        print(f"Saved: {', '.join(run.saved)}")
    # Whoever asked for the whole of it must know.
    return 0 if run.finished else 130


def _run_report(options: argparse.Namespace) -> int:
    from skleiden.io import load_communities
    from skleiden.report import write_report

    from ._run_folder import existing_run, rewrite

    path = options.folder / REPORT
    stage = Stages(quiet=True)
    with existing_run(options.folder) as manifest:
        if manifest is not None:
            _check_report(options.folder, manifest)
        saved = options.folder / COMMUNITIES
        with stage("Load"), _naming(saved):
            found = load_communities(saved)
        with stage("Page"):
            title = getattr(options, "title", found.summary.get(TITLE))
            page = content_of(lambda file: write_report(file, found, title=title))
            rewrite(options.folder, manifest, REPORT, page)
    print(json.dumps({"saved": [str(path)]}) if options.json else f"Saved: {path}")
    return 0


def content_of(save: Callable[[Any], None]) -> bytes:
    """What a function saves, as it must be known before it replaces anything."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def _check_report(folder: Path, manifest: Any) -> None:
    if manifest.command != "cluster":
        raise ValueError(
            f"{str(folder)!r} holds a run of skleiden {manifest.command}, which finds "
            "no communities. Give the --out of skleiden cluster."
        )
    page = folder / REPORT
    # In a run that was not finished files are known by their names only.
    own = manifest.has(page) if manifest.finished else REPORT in manifest.names
    if os.path.lexists(page) and not own:
        raise FileExistsError(
            f"{str(page)!r} is not of the run there, or has changed since, and would "
            "be replaced. Move it away."
        )


def _load(options: argparse.Namespace) -> Any:
    from skleiden.io import load_activations

    ids = [options.ids] if hasattr(options, "ids") else []
    with _naming(*options.files, *ids):
        stack = load_activations(
            _files(options),
            key=options.key,
            layers=options.layers.split(",") if hasattr(options, "layers") else None,
            ids=getattr(options, "ids", None),
        )
    if not len(stack):
        raise ValueError(
            f"{_some(options.files)} must hold a row for each prompt; got no rows. "
            "Give files with rows."
        )
    return stack


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
    with _naming(options.texts):
        texts = load_texts(options.texts)
    try:
        return texts_of(texts, stack.ids)
    except ValueError as error:
        raise ValueError(
            f"{error} The texts are from {str(options.texts)!r}, the ids from "
            f"{_origin_of_ids(options)}."
        ) from error


def _try_saving(run: Run, stack: Any, texts: list[str] | None, origin: str) -> None:
    """Save what is known before the work, which what cannot be saved ends at once."""
    import numpy as np

    from skleiden.inspection import Communities
    from skleiden.io import save_communities, save_labels

    saving = ((LABELS, save_labels), (COMMUNITIES, save_communities))
    try:
        known = Communities(np.full(len(stack), -1), stack.ids)
        for name, save in saving:
            save(run.folder / name, known)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{error} The ids are from {origin}.") from error
    layers = dict(zip(stack.names, stack.widths, strict=True))
    known = replace(known, texts=texts, summary={"layers": layers})
    save_communities(run.folder / COMMUNITIES, known)
    for name, _ in saving:
        (run.folder / name).unlink()


def _new_run(options: argparse.Namespace, *names: str) -> Any:
    from ._run_folder import new_run

    return new_run(
        options.out,
        options.command,
        names,
        overwrite=options.overwrite,
        inputs=_inputs(options),
    )


def _inputs(options: argparse.Namespace) -> Iterator[Path]:
    """All that is read: layers, ids beside them, and what other options name."""
    from skleiden.io._activations._find import find_files

    for path in find_files(_files(options)).values():
        yield path
        yield from path.parent.glob(f"{glob.escape(path.stem)}.ids.*")
    for name in ("ids", "texts"):
        if hasattr(options, name):
            yield getattr(options, name)


def _origin_of_ids(options: argparse.Namespace) -> str:
    if hasattr(options, "ids"):
        return repr(str(options.ids))
    return f"{_some(options.files)}, or files of ids beside"


@contextmanager
def _naming(*paths: str | Path) -> Iterator[None]:
    """Name files in errors of the system while they are read, which name none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        one = "one of " if len(paths) > 1 else ""
        raise type(error)(
            f"Cannot read {one}{_some(paths)}: {error.strerror}. Give another file, or "
            "a copy of it."
        ) from error


def _some(paths: Sequence[str | Path]) -> str:
    return ", ".join(
        [*(repr(str(p)) for p in paths[:3]), *(["..."] * (len(paths) > 3))]
    )


def _files(options: argparse.Namespace) -> Any:
    return options.files if len(options.files) > 1 else options.files[0]


def _try_report(run: Run, found: Any) -> list[str]:
    from skleiden.report import write_report

    try:
        write_report(run.folder / REPORT, found, title=found.summary.get(TITLE))
    except ImportError as error:
        return [f"No page: {error}"]
    run.add(REPORT)
    return []


def _try_figures(run: Run, found: Any, stack: Any) -> list[str]:
    from skleiden import plotting

    labels = found.labels
    draw: dict[str, Callable[[], Any]] = {
        "sizes": lambda: plotting.CommunitySizesDisplay.from_predictions(labels),
        "map": lambda: plotting.CommunityMapDisplay(found.map, labels).plot(),
        "prototypes": lambda: plotting.PrototypeHeatmapDisplay.from_predictions(
            stack, labels
        ),
        "layers": lambda: plotting.LayerAgreementDisplay(found.layer_agreement).plot(),
    }
    missing = (_try_figure(run, name, display) for name, display in draw.items())
    # Each of them misses matplotlib, if it is missing.
    return list(dict.fromkeys(line for lines in missing for line in lines))


def _try_figure(run: Run, name: str, display: Callable[[], Any]) -> list[str]:
    """Save a figure; if there is nothing to draw, or to draw with, say so."""
    from skleiden.plotting import png

    try:
        run.write(f"{name}.png", png(display()))
    except ImportError as error:
        return [f"No figures: {error}"]
    except ValueError as error:
        return [f"No {name}.png: {error}"]
    return []


def _resolutions(text: str) -> Any:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            "--resolutions must be a number of resolutions, or resolutions with commas "
            f"between them; got {text!r}."
        ) from None
    if "," not in text and values[0].is_integer():
        return int(values[0])
    return values
