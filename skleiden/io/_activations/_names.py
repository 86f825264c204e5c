"""Recognise what columns and arrays hold by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# In the order in which they are looked for.
IDS = (
    *("id", "ids", "_id", "uid", "uuid", "key", "index", "idx", "name"),
    *(f"{row}_id{s}" for row in ("prompt", "row", "sample", "text") for s in ("", "s")),
    *("question_id", "example_id", "document_id", "doc_id"),
)
TEXTS = (
    *("text", "texts", "prompt", "prompts", "question", "questions", "sentence"),
    *("sentences", "content", "document", "input", "inputs", "string"),
)
# Names of the part of a mapping that holds the activations, beside other facts.
WRAPPERS = ("activations", "acts", "layers", "hidden_states", "features", "embeddings")
RECORDS = ("pre", "post", "out")
# Names of 2-D arrays of tokens, which are no activations.
OF_TOKENS = (
    *("attention_mask", "input_ids", "token_type_ids", "special_tokens_mask"),
    *("position_ids", "token_ids", "tokens", "labels"),
)
# The columns of triplets (row, latent, value), and the arrays of the k largest.
ROWS = (
    *("row", "rows", "row_index", "row_idx", "sample", "sample_index", "sample_idx"),
    *("prompt_index", "prompt_idx", "text_index", "text_idx", "example", *IDS),
)
COLUMNS = tuple(
    form
    for name in ("latent", "feature", "neuron", "unit", "column", "col")
    for form in (name, f"{name}s", *(f"{name}_{n}" for n in ("id", "idx", "index")))
)
VALUES = (
    *("value", "values", "val", "vals", "activation", "activations", "act", "acts"),
    *("data", "latent_value", "feature_value", "activation_value", "strength"),
)
# A column, of triplets or vectors, that names the layer of each row.
LAYERS = ("layer", "layers", "layer_id", "layer_idx", "layer_index", "layer_name")
# An array that names the layers of another.
LAYER_NAMES = ("layer_names", *LAYERS)
TOP_COLUMNS = tuple(
    f"{top}{name}"
    for top in ("top_", "topk_", "latent_", "feature_", "")
    for name in ("indices", "index", "ids", "latents", "features")
)
TOP_VALUES = tuple(
    f"{top}{name}"
    for top in ("top_", "topk_", "latent_", "feature_", "")
    for name in ("values", "acts", "activations")
)


_AS_LAYERS = re.compile(
    r"layer|block|mlp|attn|resid|hook|encoder|decoder|hidden|^[lh][._]?\d+$",
    re.IGNORECASE,
)
# The layer in the name of an array of a group: q0/layer_9, batch_0.blocks.9.mlp.
_OF_GROUP = re.compile(
    r"(?:^|[./])(?:layer|block)s?[._/]?\d+(?=$|[._/])", re.IGNORECASE
)


def find(names: Iterable[Any], known: Iterable[str]) -> Any:
    """Find the first of some known names, in upper or lower case; None if none."""
    own = {plain(name): name for name in reversed(list(names)) if isinstance(name, str)}
    return next((own[name] for name in map(plain, known) if name in own), None)


def plain(name: str) -> str:
    """Reduce names such as Prompt ID, prompt_id and promptId to one form."""
    return re.sub(r"[\s_-]", "", name).lower()


def are_layers(listed: Iterable[Any]) -> bool:
    """Tell whether all names are like those of layers."""
    return all(isinstance(n, str) and _AS_LAYERS.search(n) for n in listed)


def parted(name: Any) -> tuple[str, str]:
    """Separate the name of a layer from that of its group, as in q0/layer_9."""
    match = _OF_GROUP.search(str(name))
    start = match.start() if match else 0
    return str(name)[:start], str(name)[start:].lstrip("./")


def are_texts(name: str) -> bool:
    """Tell whether a name is one that texts have."""
    return find([name], TEXTS) is not None


def are_ids(name: str) -> bool:
    """Tell whether a name is one that ids have."""
    return find([name], IDS) is not None
