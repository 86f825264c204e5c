"""Turn texts into tokens, batches of tokens, and tokens marked in their context."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from skleiden._ids import as_id_array, check_ids

_TEXTS_AT_ONCE = 1000
_CONTEXT = 60  # letters on either side of a token
_CONTEXT_TOKENS = 12  # the same where only tokens are known

# What a tokenizer returns that is not an input of the model.
_MASK, _SPECIAL, _OFFSETS = "attention_mask", "special_tokens_mask", "offset_mapping"


class Tokens(NamedTuple):
    """Tokens of all texts, one after the other.

    `inputs` has the model's inputs, ``input_ids`` first. `is_kept` tells which tokens
    are captured, and `offsets` at which letter each begins and ends, if known. The
    tokens of text i are those from ``starts[i]`` up to ``starts[i + 1]``.
    """

    inputs: dict[str, np.ndarray]
    is_kept: np.ndarray
    offsets: np.ndarray | None
    starts: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Count the tokens of each text."""
        return np.diff(self.starts)

    @property
    def n_kept(self) -> np.ndarray:
        """Count the tokens of each text that are captured."""
        return np.diff(np.r_[0, np.cumsum(self.is_kept)][self.starts])


def named_texts(texts: Any, ids: Any) -> tuple[list[str], np.ndarray]:
    """Give the texts and their ids: those given, or the numbers of the texts, as text.

    They are text because files of texts hold no other ids.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(
            "texts must be a sequence of texts, or a mapping {id: text}; got a single "
            f"{type(texts).__name__}. Put it into a list."
        )
    if isinstance(texts, Mapping):
        if ids is not None:
            raise ValueError(
                "ids are the keys of texts if texts is a mapping. Leave out ids, or "
                "give the texts as a list."
            )
        ids, texts = list(texts), list(texts.values())
    texts = list(texts)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"texts must be strings; got {type(text).__name__} as text {row}. "
                "Convert it, or leave it out."
            )
    if not texts:
        raise ValueError("texts must hold at least one text; got none.")
    if ids is None:
        ids = [str(row) for row in range(len(texts))]
    return texts, check_ids(as_id_array(ids), len(texts))


def tokenize(
    texts: Sequence[str],
    tokenizer: Any,
    max_tokens: int,
    *,
    offsets: bool = False,
) -> Tokens:
    """Tokenize texts, each by itself and without padding."""
    limit = min(max_tokens, getattr(tokenizer, "model_max_length", max_tokens))
    settings: dict[str, Any] = {
        "truncation": True,
        "max_length": int(limit),
        "return_special_tokens_mask": True,
    }
    if offsets and getattr(tokenizer, "is_fast", False):
        settings["return_offsets_mapping"] = True
    columns: dict[str, list[np.ndarray]] = {}
    lengths: list[int] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = list(texts[start : start + _TEXTS_AT_ONCE])
        rows = list(_rows_of(tokenizer(some, **settings), len(some)))
        for key in rows[0]:
            columns.setdefault(key, []).append(np.concatenate([r[key] for r in rows]))
        lengths += [row["input_ids"].size for row in rows]
    flat = {key: np.concatenate(values) for key, values in columns.items()}
    special = flat.pop(_SPECIAL, np.zeros(sum(lengths), dtype=bool))
    n_cut = sum(length >= limit for length in lengths)
    if n_cut:
        warnings.warn(
            f"{n_cut} of {len(lengths)} texts have {limit} tokens or more, of which "
            f"{limit} are used. Raise max_tokens if the model takes more.",
            UserWarning,
            stacklevel=3,
        )
    starts = np.r_[0, np.cumsum(lengths, dtype=np.int64)]
    return Tokens(flat, special == 0, flat.pop(_OFFSETS, None), starts)


def _rows_of(encoded: Any, n_texts: int) -> Iterator[dict[str, np.ndarray]]:
    """Give the tokens of each text, without padding that a tokenizer added."""
    if not isinstance(encoded, Mapping) or "input_ids" not in encoded:
        raise TypeError(
            "tokenizer must return a mapping with 'input_ids', a list of tokens for "
            f"each text; got {type(encoded).__name__}. Wrap it so that it does."
        )
    if len(encoded["input_ids"]) != n_texts:
        raise ValueError(
            f"tokenizer must return tokens for each of {n_texts} texts; got tokens for "
            f"{len(encoded['input_ids'])}. Wrap it so that it does."
        )
    # Others, such as lengths, are not of single tokens.
    ids = encoded["input_ids"]
    keys = [
        key
        for key, values in encoded.items()
        if [np.shape(own)[:1] for own in values] == [(len(own),) for own in ids]
    ]
    for row in range(n_texts):
        tokens = {key: np.asarray(encoded[key][row], np.int32) for key in keys}
        is_there = tokens.pop(_MASK, np.ones(len(ids[row]))) > 0
        if _OFFSETS in tokens:  # of a text without tokens, too
            tokens[_OFFSETS] = tokens[_OFFSETS].reshape(-1, 2)
        yield {key: values[is_there] for key, values in tokens.items()}


def shifted_right(tokens: Tokens, start: int) -> Tokens:
    """Put the decoder's start token before each text, and drop its last special token.

    The start token is captured like any other: from it, the decoder predicts its first
    token.
    """
    ids, kept = tokens.inputs["input_ids"], tokens.is_kept
    parts = []
    for i, j in zip(tokens.starts[:-1], tokens.starts[1:], strict=True):
        stop = j - 1 if j > i and not kept[j - 1] else j
        parts.append((np.r_[start, ids[i:stop]], np.r_[True, kept[i:stop]]))
    lengths = [own.size for own, _ in parts]
    return Tokens(
        {"input_ids": np.concatenate([own for own, _ in parts])},
        np.concatenate([own for _, own in parts]),
        None,
        np.r_[0, np.cumsum(lengths, dtype=np.int64)],
    )


def padded(
    tokens: Tokens, rows: np.ndarray, pad: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Give padded inputs of some texts, with masks of their tokens and of those kept.

    Padding is on the right, whatever the tokenizer would do, so that positions do not
    change.
    """
    lengths = tokens.lengths[rows]
    places = tokens.starts[rows, None] + np.arange(lengths.max())
    is_there = np.arange(lengths.max()) < lengths[:, None]
    places = np.where(is_there, places, 0)
    inputs = {
        key: np.where(is_there, values[places], pad if key == "input_ids" else 0)
        for key, values in tokens.inputs.items()
    }
    return inputs, is_there, is_there & tokens.is_kept[places]


def batches(
    lengths: np.ndarray, batch_tokens: int, *, one_length: bool
) -> Iterator[np.ndarray]:
    """Divide texts into batches of similar length, with at most so many tokens.

    Texts without tokens are in no batch. No batch has as many texts as tokens in a
    text, so that the two axes of a module's output cannot be confused.
    """
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    for stop in range(1, order.size + 1):
        if stop < order.size:
            longest, shortest = lengths[order[stop]], lengths[order[start]]
            fits = (stop + 1 - start) * longest <= batch_tokens
            if fits and not (one_length and longest > shortest):
                continue
        batch = order[start:stop]
        start = stop
        if 1 < batch.size == lengths[batch[-1]]:
            yield batch[:1]
            batch = batch[1:]
        yield batch


def row_ids(tokens: Tokens, ids: np.ndarray) -> list[str]:
    """Name each captured token ``id:position``, by its place in its text."""
    return [
        f"{name}:{position}"
        for name, kept in zip(ids.tolist(), _each(tokens), strict=True)
        for position in np.flatnonzero(kept)
    ]


def _each(tokens: Tokens) -> Iterator[np.ndarray]:
    for start, stop in zip(tokens.starts[:-1], tokens.starts[1:], strict=True):
        yield tokens.is_kept[start:stop]


def contexts(tokens: Tokens, texts: Sequence[str], tokenizer: Any) -> Iterator[str]:
    """Mark each captured token in its context."""
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    starts = tokens.starts[:-1].tolist()
    for text, start, kept in zip(texts, starts, _each(tokens), strict=True):
        own = slice(start, start + kept.size)
        if tokens.offsets is None:
            ids = tokens.inputs["input_ids"][own].tolist()
            pieces = [str(p) for p in (convert(ids) if convert else ids)]
            yield from (_in_pieces(pieces, i) for i in np.flatnonzero(kept).tolist())
        else:
            for first, last in tokens.offsets[own][kept].tolist():
                yield _in_text(text, first, last)


def _in_text(text: str, first: int, last: int) -> str:
    left, right = max(0, first - _CONTEXT), min(len(text), last + _CONTEXT)
    return (
        f"{'...' if left else ''}{text[left:first]}<<{text[first:last]}>>"
        f"{text[last:right]}{'...' if right < len(text) else ''}"
    )


def _in_pieces(pieces: Sequence[str], place: int) -> str:
    left, right = max(0, place - _CONTEXT_TOKENS), place + 1 + _CONTEXT_TOKENS
    return " ".join(
        [
            *(["..."] if left else []),
            *pieces[left:place],
            f"<<{pieces[place]}>>",
            *pieces[place + 1 : right],
            *(["..."] if right < len(pieces) else []),
        ]
    )


def token_contexts(
    texts: Sequence[str] | Mapping[Any, str],
    tokenizer: Any,
    *,
    ids: Sequence[Any] | None = None,
    max_tokens: int = 512,
) -> dict[str, str]:
    """Mark each token in its context, to give texts for the rows of captured tokens.

    Parameters
    ----------
    texts : sequence of str, or mapping of {id: text}
        The texts that were given to :func:`capture_activations`.

    tokenizer : callable
        The tokenizer that was given to it.

    ids : sequence, default=None
        The ids that were given to it.

    max_tokens : int, default=512
        The largest number of tokens in a text that was given to it.

    Returns
    -------
    dict of {str: str}
        For each token that is not special, under the id of its row, ``id:position``, an
        excerpt of its text: the token between ``<<`` and ``>>``, with 60 letters on
        either side. If a tokenizer does not tell where a token is in its text, the
        excerpt has twelve tokens on either side.

    Examples
    --------
    >>> from skleiden.capture import token_contexts
    >>> def tokenizer(texts, **_):
    ...     return {"input_ids": [[ord(letter) for letter in text] for text in texts]}
    >>> token_contexts({"q": "abc"}, tokenizer)
    {'q:0': '<<97>> 98 99', 'q:1': '97 <<98>> 99', 'q:2': '97 98 <<99>>'}
    """
    listed, names = named_texts(texts, ids)
    tokens = tokenize(listed, tokenizer, max_tokens, offsets=True)
    marked = contexts(tokens, listed, tokenizer)
    return dict(zip(row_ids(tokens, names), marked, strict=True))
