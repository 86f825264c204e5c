"""Run ``skleiden capture``: save the activations of a model on texts."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from skleiden import io
from skleiden.capture import capture_activations
from skleiden.capture._modules import PARTS, SIDES
from skleiden.capture._passes import POOLS
from skleiden.capture._store import TEXTS

from ._input import naming
from ._options import _add, arguments_of
from ._progress import Stages

DESCRIPTION = """\
Capture the activations of a language model's neurons on texts, a layer for each block,
and save them into a folder of Zarr, which skleiden cluster reads, with the texts beside
them. A capture that was stopped goes on when the same command is given again. Needs
torch, transformers and zarr.
"""

_LESS = "lower --batch-tokens, or choose fewer modules by --modules and --side"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model of transformers: a folder, or a name on the Hugging Face hub",
    )
    parser.add_argument(
        "texts",
        type=Path,
        metavar="TEXTS",
        help="the texts: a file .txt with one on each line, or with ids, as CSV, JSON, "
        "Parquet or from torch",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to save into: a new or an empty one, or that of the same capture",
    )
    group = parser.add_argument_group("capture")
    group.add_argument(
        "--modules",
        action="append",
        metavar="PATTERN",
        help="name of a module in the model, or a pattern of names; may be given again "
        "for more (default: those that are known of many models)",
    )
    _add(group, capture_activations, "side", choices=SIDES)
    _add(group, capture_activations, "part", choices=PARTS)
    _add(group, capture_activations, "decoder_inputs", metavar="TEXT")
    _add(group, capture_activations, "pool", choices=list(POOLS))
    _add(group, capture_activations, "max_tokens", type=int, metavar="N")
    _add(group, capture_activations, "batch_tokens", type=int, metavar="N")
    group.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where the model runs: cpu, cuda",
    )
    group.add_argument(
        "--dtype",
        choices=["float16", "bfloat16", "float32"],
        help="dtype of the model (default: that of its file)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    stage = Stages(quiet=options.quiet, bars=True)
    texts = load_texts(options.texts)
    with stage("Load"):
        model, tokenizer = load_model(options.model, options.dtype)
        model.to(options.device)
    with stage("Capture", _LESS):
        try:
            stack = capture_activations(
                model,
                texts,
                tokenizer,
                verbose=stage.verbose,
                **arguments_of(options, capture_activations),
            )
        except KeyboardInterrupt as error:
            error.add_note("The same command goes on where this one stopped.")
            raise
    widths = sorted(set(stack.widths))
    print(
        f"{len(texts)} texts, {len(stack)} rows, {len(stack.names)} layers of "
        f"{' or '.join(map(str, widths[:3]))} neurons ({stack.dtype})"
    )
    print(stage.summary())
    print(f"Saved: {options.out}, with the texts in {options.out / TEXTS}")
    return 0


def load_texts(path: Path) -> Any:
    """Load texts like :func:`skleiden.io.load_texts`, without blank lines.

    Lines have the numbers of their rows as ids, which are given later.
    """
    with naming(path):
        found = io.load_texts(path)
    texts = found
    if isinstance(found, list) and path.suffix.casefold() == ".txt":
        texts = [line for line in found if line.strip()]
    if not texts:
        raise ValueError(
            f"{str(path)!r} must have a text on each line; got no text. Give a file "
            "with texts."
        )
    if len(texts) < len(found):
        warnings.warn(
            f"{len(found) - len(texts)} of {len(found)} lines in {str(path)!r} are "
            "blank and left out; ids number the others.",
            UserWarning,
            stacklevel=2,
        )
    return texts


def load_model(name: str, dtype: str | None) -> tuple[Any, Any]:
    """Load a model of transformers and its tokenizer."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "skleiden capture needs torch and transformers: pip install "
            '"skleiden[capture]".'
        ) from error
    # Its own account of what it loads is for those who call it.
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    model, loaded = transformers.AutoModel.from_pretrained(
        name, dtype=dtype or "auto", output_loading_info=True
    )
    missing = sorted(loaded["missing_keys"])
    if missing:
        warnings.warn(
            f"{len(missing)} weights of a {type(model).__name__} are not in {name!r} "
            f"and are random: {', '.join(missing[:5])}. Do not rely on layers that "
            "they lead to.",
            UserWarning,
            stacklevel=2,
        )
    return model, tokenizer
