"""Capture activations of a model on texts."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from skleiden import LayerStack
from skleiden._ids import as_id_array
from skleiden._progress import progress

from ._modules import PARTS, find_modules
from ._passes import POOLS, Passes, evaluating
from ._store import Folder, Memory, Shape
from ._tokens import Tokens, contexts, named_texts, row_ids, shifted_right, tokenize

_AT_ONCE = 2**22  # values of a model that are copied at a time


def capture_activations(
    model: Any,
    texts: Sequence[str] | Mapping[Any, str],
    tokenizer: Any,
    *,
    ids: Sequence[Any] | None = None,
    modules: str | Sequence[str] | None = None,
    side: str | None = None,
    part: str | None = None,
    decoder_inputs: str | Sequence[str] | None = None,
    pool: str = "mean",
    max_tokens: int = 512,
    batch_tokens: int = 4096,
    out: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> LayerStack:
    """Capture the activations of a model's neurons on texts, one layer a module.

    Parameters
    ----------
    model : torch.nn.Module
        A model of transformers, or any other module that takes ``input_ids`` of shape
        (texts, tokens). It runs on its device and in its dtype, without dropout and
        gradients, and is left as it was.

    texts : sequence of str, or mapping of {id: text}
        The texts; each becomes one row, unless each token does (see `pool`).

    tokenizer : callable
        A tokenizer of transformers, or a callable that works like one: it is called
        with a list of texts, ``truncation``, ``max_length`` and
        ``return_special_tokens_mask``, and returns a mapping with ``input_ids``, a list
        for each text, and, if it knows special tokens, ``special_tokens_mask``.

    ids : sequence, default=None
        Ids of the texts. If None, they are the keys of `texts`, or the numbers of the
        texts as strings, from "0" on.

    modules : str or sequence of str, default=None
        Names of modules in the model, or patterns of names: ``*`` stands for one part
        of a name, between two dots, and ``**`` for any number of them. If None, it is
        the last projection of each block's MLP, which is found by name in BERT, GPT-2,
        GPT-NeoX, OPT, Llama, T5 and models built like them.

    side : {"input", "output"}, default=None
        Which side of the modules is captured; required with `modules`. If both are
        None, it is "input": the input of an MLP's last projection holds the activations
        of its neurons.

    part : {"encoder", "decoder"}, default=None
        Which part is captured; required for a model that has both.

    decoder_inputs : str or sequence of str, default=None
        Texts for the decoder, one for all or one for each text. The decoder's start
        token is put before each. If None, the decoder gets the start token alone.

    pool : {"mean", "max", "last", "tokens"}, default="mean"
        How the tokens of a text become its row: by their mean, their largest values or
        the last one. With ``"tokens"``, each token becomes a row, whose id is
        ``id:position``: the text's id and the token's position among the text's tokens,
        special ones included, from 0 on. :func:`token_contexts` gives texts for these
        rows. Padding and special tokens are left out, except for the decoder's start
        token.

    max_tokens : int, default=512
        Largest number of tokens in a text, at least 1; a lower limit of the tokenizer
        or the model takes precedence. The tokenizer cuts longer texts.

    batch_tokens : int, default=4096
        Largest number of tokens in a batch, including padding, at least 1. Texts of
        similar length share a batch.

    out : path-like, default=None
        A Zarr folder into which activations are written as they are captured, with the
        texts beside them in ``texts.json``. Memory then holds a block of rows at a time
        (64 MiB for all layers, or a batch if that is more). If the folder holds part of
        the same capture, the capture goes on where that stopped.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    stack : LayerStack
        One layer for each module, in natural order, named ``layer_0``, ``layer_1``, ...
        if `modules` is None, else after the modules. Activations are as the model
        computes them, including negative ones, and in its dtype; dtypes that NumPy does
        not have, such as bfloat16, become float32. With `out`, they stay in that
        folder.

    Warns
    -----
    UserWarning
        If texts are cut; if some have only special tokens: their rows are zero, or,
        with ``pool="tokens"``, they have no rows; if some layers have an MLP of another
        kind than the others, and are left out.

    Raises
    ------
    FileExistsError
        If `out` holds something else, or a capture with another model, other texts or
        other settings.

    ImportError
        If `out` is given, but zarr is not installed.

    TypeError
        If texts are not strings; if the tokenizer or a module returns something other
        than described.

    ValueError
        If `modules` is None and the modules are not known; if modules do not run or run
        more than once in a pass, or do not give one vector for each token; if
        activations are not finite; if a parameter has a value not listed above.

    See Also
    --------
    skleiden.io.load_activations : Load what `out` holds.

    Notes
    -----
    Rows are captured in blocks, and in each block in batches of texts of similar
    length, padded on the right. The amount of padding changes the last digits of a
    text's activations. They therefore depend on `batch_tokens`, but not on `out` or on
    where a capture was stopped.

    Examples
    --------
    With a model and tokenizer of transformers::

        tokenizer = AutoTokenizer.from_pretrained("EleutherAI/pythia-70m")
        model = AutoModel.from_pretrained("EleutherAI/pythia-70m")
        stack = capture_activations(model, texts, tokenizer, out="pythia.zarr")

    With any module of torch:

    >>> import torch
    >>> from skleiden.capture import capture_activations
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Embedding(256, 8), torch.nn.Linear(8, 16), torch.nn.ReLU()
    ... )
    >>> def tokenizer(texts, **_):
    ...     return {"input_ids": [list(text.encode()) for text in texts]}
    >>> texts = ["Why is the sky blue?", "How deep is the sea?"]
    >>> capture_activations(model, texts, tokenizer, modules="2", side="output")
    LayerStack(2 rows; 2: 16)
    """
    _check_choice("pool", pool, POOLS)
    for name, value in (("max_tokens", max_tokens), ("batch_tokens", batch_tokens)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}.")
    listed, names = named_texts(texts, ids)
    _check_part(model, part, decoder_inputs)
    found = find_modules(model, modules, side, part)
    # Beyond its positions, a model has an IndexError at best.
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    max_tokens = min(max_tokens, positions or max_tokens)
    tokens = tokenize(listed, tokenizer, max_tokens, offsets=pool == "tokens")
    decoder, said = None, listed
    if part == "decoder":
        decoder, said = _decoder_tokens(
            model, decoder_inputs, len(listed), tokenizer, max_tokens
        )
    passes = Passes(
        model,
        found,
        part,
        pool,
        tokens,
        decoder,
        # Not one that the model takes for a token where it looks at ids alone.
        pad=getattr(tokenizer, "pad_token_id", None) or 0,
        batch_tokens=batch_tokens,
    )
    _check_tokens(passes)
    rows = names if pool != "tokens" else as_id_array(row_ids(passes.captured, names))
    with evaluating(model):
        shape = _shape_of(passes, len(rows))
        if out is None:
            return _capture(passes, shape, Memory(shape, rows), verbose)
        layers = {name: [w, str(dtype)] for name, (w, dtype) in shape.layers.items()}
        facts = {
            "texts": _digest([*listed, *names.tolist()]),
            "tokens": _digest_of_tokens(tokens, decoder),
            "model": _digest_of_model(model),
            "modules": found.names,
            "side": found.side,
            "part": part,
            "pool": pool,
            "batch_tokens": batch_tokens,
            "layers": layers,
            "block_rows": passes.block_rows(shape),
        }
        folder = Folder(out, facts)
        folder.create(
            shape,
            rows,
            contexts(passes.captured, said, tokenizer) if pool == "tokens" else listed,
        )
        return _capture(passes, shape, folder, verbose)


def _capture(
    passes: Passes, shape: Shape, place: Memory | Folder, verbose: int
) -> LayerStack:
    """Capture the blocks that are not done yet."""
    first = np.r_[0, np.cumsum(passes.rows)]  # row of each text
    block = passes.block_rows(shape)
    starts = range(0, shape.n_rows, block)[place.n_done :]
    n_texts = len(passes.rows)
    with progress("Capture", n_texts, shown=verbose > 0, unit="text") as update:
        told = 0
        for start in starts:
            stop = min(start + block, shape.n_rows)
            # A text whose tokens are in two blocks passes twice, so that each block is
            # the same whatever was there before.
            i = int(np.searchsorted(first, start, side="right")) - 1
            j = int(np.searchsorted(first, stop, side="left"))
            update(i - told)
            told = j
            values = passes.texts(i, j, shape.layers, update)
            own = slice(start - first[i], stop - first[i])
            place.write(start, {name: rows[own] for name, rows in values.items()})
            del values  # or else there would be two blocks
    return place.stack()


def _shape_of(passes: Passes, n_rows: int) -> Shape:
    """Find the widths and dtypes of the layers with a pass of the shortest text."""
    lengths = passes.tokens.lengths
    there = np.flatnonzero(lengths)
    if not there.size:
        raise ValueError(
            f"tokenizer returns no tokens for any of {lengths.size} texts. Give texts "
            "that are not empty."
        )
    shortest = there[lengths[there].argmin()]
    layers = {
        layer: (values.shape[1], values.dtype)
        for layer, values in passes.batch(np.array([shortest])).items()
    }
    # In the order of the modules, not of their calls.
    return Shape(n_rows, {layer: layers[layer] for layer in passes.found.modules})


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if value not in tuple(choices):
        raise ValueError(f"{name} must be one of {tuple(choices)}; got {value!r}.")


def _check_part(model: Any, part: str | None, decoder_inputs: Any) -> None:
    config = getattr(model, "config", None)
    takes = "decoder_input_ids" in inspect.signature(model.forward).parameters
    if takes and getattr(config, "is_encoder_decoder", False):
        if part not in PARTS:
            raise ValueError(
                f"part must say which part of a {type(model).__name__} is captured, "
                f"'encoder' or 'decoder'; got {part!r}."
            )
    elif part is not None:
        raise ValueError(
            f"part is for models with an encoder and a decoder, and a "
            f"{type(model).__name__} is not one; got {part!r}. Leave it out."
        )
    if decoder_inputs is not None and part != "decoder":
        raise ValueError(
            f"decoder_inputs are only used with part='decoder'; got part={part!r}. "
            "Leave them out."
        )


def _decoder_tokens(
    model: Any, inputs: Any, n_texts: int, tokenizer: Any, max_tokens: int
) -> tuple[Tokens, list[str]]:
    """Give the tokens and texts of the decoder."""
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        raise ValueError(
            "The model's config does not say which token the decoder starts with. Set "
            "model.config.decoder_start_token_id; T5 starts with its padding token, 0."
        )
    if inputs is None:
        none = np.zeros(0, np.int32)
        empty = Tokens({"input_ids": none}, none > 0, None, np.zeros(n_texts + 1, int))
        return shifted_right(empty, start), [""] * n_texts
    listed, _ = named_texts(
        [inputs] * n_texts if isinstance(inputs, str) else inputs, None
    )
    if len(listed) != n_texts:
        raise ValueError(
            f"decoder_inputs must be one text for all, or one for each of {n_texts} "
            f"texts; got {len(listed)}."
        )
    return shifted_right(tokenize(listed, tokenizer, max_tokens), start), listed


def _check_tokens(passes: Passes) -> None:
    """Warn of texts that have no tokens to pool, and refuse if none has any."""
    n_kept = passes.captured.n_kept
    empty = np.flatnonzero(n_kept == 0)
    if empty.size == n_kept.size:
        raise ValueError(
            f"None of {n_kept.size} texts has other tokens than special ones. Give "
            "texts that are not empty."
        )
    if empty.size:
        left = "have no rows" if passes.pool == "tokens" else "are rows of zeros"
        warnings.warn(
            f"{empty.size} of {n_kept.size} texts have only special tokens, and "
            f"{left}, the first of them text {empty[0]}. Leave them out if they mean "
            "nothing.",
            UserWarning,
            stacklevel=3,
        )


def _digest(values: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(repr(value).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _digest_of_tokens(tokens: Tokens, decoder: Tokens | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for one in (tokens, decoder):
        if one is not None:
            for values in (*one.inputs.values(), one.is_kept, one.starts):
                digest.update(values.tobytes())
    return digest.hexdigest()


def _digest_of_model(model: Any) -> str:
    """Hash the names, shapes and values of a model's parameters and buffers.

    Files and devices do not count, because a capture may go on elsewhere.
    """
    config: Any = getattr(model, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    known = {
        key: value
        for key, value in settings.items()
        if not key.startswith("_") and key != "transformers_version"
    }
    facts = [type(model).__name__, json.dumps(known, sort_keys=True, default=str)]
    for name, values in model.state_dict().items():
        if hasattr(values, "detach"):
            facts.append(f"{name} {tuple(values.shape)} {values.dtype}")
            if values.device.type != "meta" and values.numel():
                facts.append(str(_checksum(values.detach())))
    return _digest(facts)


def _checksum(values: Any) -> int:
    """Give a checksum of all values of a tensor, the same on every device."""
    import torch

    checksum = 0
    for some in values.reshape(-1).split(_AT_ONCE):
        content = some.cpu().contiguous().view(torch.uint8).numpy()
        checksum = zlib.crc32(content, checksum)
    return checksum
