"""Find the modules of a model that are captured."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from skleiden.io._activations._layer import natural_order

# The last projection of each block's MLP, whose input is what its neurons do, by
# architecture: the end of the module's name, from the list of blocks on.
_PROJECTIONS = {
    "BERT, RoBERTa, ELECTRA, DeBERTa, MPNet": r"layer\.(\d+)\.output\.dense",
    "DistilBERT": r"layer\.(\d+)\.ffn\.lin2",
    "ModernBERT": r"layers\.(\d+)\.mlp\.Wo",
    "GPT-2, GPT-Neo, GPT-BigCode": r"h\.(\d+)\.mlp\.c_proj",
    "StarCoder2": r"layers\.(\d+)\.mlp\.c_proj",
    "GPT-J, CodeGen": r"h\.(\d+)\.mlp\.fc_out",
    "GPT-NeoX, Pythia, Persimmon": r"layers\.(\d+)\.mlp\.dense_4h_to_h",
    "BLOOM, Falcon": r"h\.(\d+)\.mlp\.dense_4h_to_h",
    "OPT, XGLM, BART, Pegasus, NLLB": r"layers\.(\d+)\.fc2",
    "Phi": r"layers\.(\d+)\.mlp\.fc2",
    "Llama, Mistral, Qwen, Gemma, OLMo, SmolLM": r"layers\.(\d+)\.mlp\.down_proj",
    "MPT": r"blocks\.(\d+)\.ffn\.down_proj",
    "T5, UMT5": r"block\.(\d+)\.layer\.\d+\.DenseReluDense\.wo",
}
_KNOWN = re.compile(rf"(?:.*\.)?(?:{'|'.join(_PROJECTIONS.values())})")

PARTS = ("encoder", "decoder")
SIDES = ("input", "output")
_MOST_LISTED = 30


class Found(NamedTuple):
    """Modules by the names of their layers, and the side of them that is captured."""

    modules: dict[str, Any]
    names: list[str]  # of the modules in the model
    side: str


def find_modules(
    model: Any, modules: str | Sequence[str] | None, side: str | None, part: str | None
) -> Found:
    """Find the modules that patterns name, or the known ones if there are none."""
    if side is not None and side not in SIDES:
        raise ValueError(f"side must be one of {SIDES}; got {side!r}.")
    if modules is not None and side is None:
        raise ValueError(
            "side must say which side of the modules is captured, 'input' or 'output', "
            f"if modules are given; got side=None with modules={modules!r}."
        )
    named = {name: module for name, module in model.named_modules() if name}
    if modules is None:
        layers = _known(model, named, part)
    else:
        layers = _matching(model, named, modules)
    if part is not None:
        (other,) = set(PARTS) - {part}
        foreign = [name for name in layers.values() if other in name.split(".")]
        if foreign:
            raise ValueError(
                f"modules must belong to the part that is captured, the {part}; got "
                f"{foreign[:3]}, which belong to the {other}. Give other modules, or "
                f"part={other!r}."
            )
    ordered = sorted(layers, key=natural_order)
    return Found(
        {layer: named[layers[layer]] for layer in ordered},
        [layers[layer] for layer in ordered],
        side or "input",
    )


def _known(model: Any, named: dict[str, Any], part: str | None) -> dict[str, str]:
    """Name the known projections ``layer_0``, ``layer_1``, ...: {layer: module}."""
    # By what is before the number of the block in a name, and what after it.
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name in named:
        match = _KNOWN.fullmatch(name)
        if match and (part is None or part in name.split(".")):
            start, stop = match.span(match.lastindex or 0)
            layer = f"layer_{name[start:stop]}"
            groups.setdefault((name[:start], name[stop:]), {})[layer] = name
    if not groups:
        raise ValueError(
            f"The MLPs of {_kind(model)} cannot be found by the names of its modules. "
            f"This is possible for {', '.join(_PROJECTIONS)}. Give modules and side: "
            "the input of the last projection of each MLP, for example. "
            f"{_listed(named)}"
        )
    if len(groups) > 1:
        raise ValueError(
            f"{_kind(model)} has several stacks of MLPs, "
            f"{[_pattern(group.values()) for group in groups.values()]}, but only one "
            "can be captured at a time. Give one of these as modules, with "
            "side='input'."
        )
    (((prefix, _), layers),) = groups.items()
    blocks = {
        f"layer_{rest.split('.')[0]}"
        for name in named
        if name.startswith(prefix) and (rest := name.removeprefix(prefix))
    }
    without = sorted(blocks - set(layers), key=natural_order)
    if without:
        warnings.warn(
            f"{len(without)} of {len(blocks)} layers have an MLP of another kind than "
            f"{_pattern(layers.values())!r}, such as experts, and are left out: "
            f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}. Give "
            "modules and side to capture others.",
            UserWarning,
            stacklevel=4,  # past find_modules and capture_activations
        )
    return layers


def _matching(
    model: Any, named: dict[str, Any], modules: str | Sequence[str]
) -> dict[str, str]:
    patterns = [modules] if isinstance(modules, str) else list(modules)
    found = {}
    for pattern in patterns:
        regex = _regex(pattern)
        matched = {name: name for name in named if regex.fullmatch(name)}
        if not matched:
            raise ValueError(
                f"modules must name modules of {_kind(model)}; got {pattern!r}, which "
                "names none. In a pattern, * stands for one part of a name, between "
                f"two dots, and ** for any number of them. {_listed(named)}"
            )
        found.update(matched)
    if not found:
        raise ValueError(f"modules must name at least one module; got {modules!r}.")
    return found


def _regex(pattern: str) -> re.Pattern[str]:
    """Make a regular expression of a pattern of names, with ``*`` and ``**``.

    ``*`` stands for one part of a name: if it stood for several,
    ``layer.*.output.dense`` would match the outputs of attention, too. ``**`` does.
    """
    text = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", r"[^.]*")
    return re.compile(text)


def _stem(name: str) -> str:
    """Give what the names of modules of one kind have in common."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _pattern(names: Iterable[str]) -> str:
    """Give the pattern of names with one stem, with stars where they differ."""
    parts = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(part[0] if len(set(part)) == 1 else "*" for part in parts)


def _listed(named: dict[str, Any]) -> str:
    """List what can be captured: modules with a weight matrix, as patterns."""
    groups: dict[str, dict[str, str]] = {}
    for name, module in named.items():
        weight: Any = getattr(module, "weight", None)
        if getattr(weight, "ndim", 0) == 2 and "Embedding" not in type(module).__name__:
            kind = f"{type(module).__name__} {' x '.join(map(str, weight.shape))}"
            groups.setdefault(_stem(name), {})[name] = kind
    listed = [
        f"{_pattern(kinds)} ({len(kinds)} of {', '.join(sorted(set(kinds.values())))})"
        for kinds in groups.values()
    ]
    what = "modules with a matrix of weights"
    if not listed:
        listed, what = list(dict.fromkeys(map(_stem, named))), "modules"
    more = ["..."] if len(listed) > _MOST_LISTED else []
    return f"Its {what} are: {'; '.join(listed[:_MOST_LISTED] + more) or 'none'}."


def _kind(model: Any) -> str:
    return f"a {type(model).__name__}"
