"""Names by which columns and arrays tell what they hold."""

from __future__ import annotations

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


def find(names: Iterable[Any], known: Iterable[str]) -> Any:
    """Give the first of some known names that is there, in any case; None if none."""
    own = {plain(name): name for name in reversed(list(names)) if isinstance(name, str)}
    return next((own[name] for name in known if name in own), None)


def plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
