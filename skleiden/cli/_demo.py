"""Run ``skleiden demo``: find communities in the data that come with the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from skleiden import datasets, inspection, io, report
from skleiden.inspection import Communities
from skleiden.io._files import as_given, check_place, writing

from ._options import a_path, add_estimators, add_seed, make_pipeline
from ._output import as_text, content_of, in_short
from ._progress import Stages
from ._signals import SIGNALS

# Parameters that one may try out; the others are their defaults.
_OPTIONS = ("resolution", "n_neighbors", "n_components", "weighting")

DESCRIPTION = """\
Find communities among prompts by what a language model's neurons do, on data that
comes with the package: MLP activations of the six layers of MiniLM, and each prompt's
theme, which the clustering does not see. Prints the communities with some of their
prompts and the neurons that set them apart, their agreement with the themes, and how
long each stage took; saves everything as JSON, and as a page to look at.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "-o",
        "--output",
        type=a_path,
        default=Path("communities.json"),
        metavar="FILE",
        help="where to save the communities; an existing file is replaced. The page "
        "goes beside it, with the suffix .html, which FILE must not have",
    )
    add_estimators(parser, only=_OPTIONS)
    add_seed(parser)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, only the result"
    )


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    page = options.output.with_suffix(".html")
    # Before the work, not after it.
    places = {path: check_place(path) for path in (options.output, page)}
    if len(set(places.values())) < 2 or _is_page(options.output):
        raise ValueError(
            f"{str(options.output)!r} is where the page goes, too, which would replace "
            "the communities. Give a name that ends in .json."
        )
    stage = Stages(quiet=options.quiet)
    with stage("Load"):
        data = datasets.load_prompt_activations()
    pipeline = make_pipeline(options, n_jobs=-1, verbose=0)
    with stage("Sketch", "lower --n-components"):
        embedding = pipeline["sketch"].fit_transform(data.data)
    with stage("Cluster", "lower --n-components or --n-neighbors"):
        labels = pipeline["leiden"].fit_predict(embedding)
    with stage("Inspect"):
        found = inspection.describe_communities(pipeline, data.data, texts=data.prompts)
    with stage("Save"):
        missing = _save(found, options.output, page)
    print(as_text(found))
    print(in_short(found))
    print(
        f"Agreement with the {len(data.target_names)} themes, which were not used: "
        f"AMI {adjusted_mutual_info_score(data.target, labels):.3f}, "
        f"ARI {adjusted_rand_score(data.target, labels):.3f}"
    )
    print(stage.summary())
    saved, shown = (as_given(path, places[path]) for path in (options.output, page))
    if missing:
        print(f"{missing}\nSaved: {saved}")
    else:
        print(f"Saved: {saved}, {shown} (open it in a browser)")
    return 0


def _save(found: Communities, path: Path, page: Path) -> str | None:
    """Save communities and their page, or say why there is no page.

    However this ends, no page of other communities is left beside these.
    """
    title = "Prompts of 29 themes, by their neurons"
    try:
        content = content_of(lambda file: report.write_report(file, found, title=title))
    except ImportError as error:
        io.save_communities(path, found)
        old = f"; {str(page)!r} is of other communities" if page.exists() else ""
        return f"No page: {error}{old}"
    both = content_of(lambda file: io.save_communities(file, found)), content
    with SIGNALS.held(), writing(page) as new_page, writing(path) as new:
        for file, text in zip((new, new_page), both, strict=True):
            file.write(text)
            file.flush()
        check_place(page).unlink(missing_ok=True)
    return None


def _is_page(path: Path) -> bool:
    """Tell whether a name is that of the page, in file systems that ignore case."""
    return path.suffix.casefold() == ".html"
