"""Pass batches through a model, and record what its modules take or give."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ._modules import Found
from ._store import Shape
from ._tokens import Tokens, batches, padded

# What a model is told not to make, where it can be told: a cache of keys and values,
# and the logits of all tokens but the last.
_LEFT_OUT = {"use_cache": False, "logits_to_keep": 1}


class Passes(NamedTuple):
    """Passes of texts through a model, during which some modules are captured.

    `decoder` has the decoder's tokens, if the decoder is captured.
    """

    model: Any
    found: Found
    part: str | None
    pool: str
    tokens: Tokens
    decoder: Tokens | None
    pad: int
    batch_tokens: int

    @property
    def captured(self) -> Tokens:
        """Give the tokens whose activations are captured."""
        return self.tokens if self.decoder is None else self.decoder

    @property
    def rows(self) -> np.ndarray:
        """Count the rows of each text in the result."""
        n_kept = self.captured.n_kept
        return n_kept if self.pool == "tokens" else np.ones_like(n_kept)

    def block_rows(self, shape: Shape) -> int:
        """Count the rows of a block; if rows are tokens, at least those of a batch."""
        return shape.block_rows(self.batch_tokens if self.pool == "tokens" else 1)

    def texts(
        self, start: int, stop: int, layers: dict[str, Any], progress: Any
    ) -> dict[str, np.ndarray]:
        """Capture texts from one up to another, as {layer: their rows, in order}.

        `layers` has the width and dtype of each.
        """
        first = np.r_[0, np.cumsum(self.rows[start:stop])]
        values = {
            layer: np.zeros((first[-1], width), dtype)
            for layer, (width, dtype) in layers.items()
        }
        lengths = self.tokens.lengths[start:stop].copy()
        if self.decoder is not None:
            lengths += self.decoder.lengths[start:stop]
        one_length = not _takes(self.called, "attention_mask")
        progress(int((lengths == 0).sum()))
        for batch in batches(lengths, self.batch_tokens, one_length=one_length):
            places = np.concatenate(
                [np.arange(first[i], first[i + 1]) for i in batch.tolist()]
            )
            for layer, own in self.batch(batch + start).items():
                values[layer][places] = own
            progress(batch.size)
        return values

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Capture some texts in one pass, as {layer: their rows}."""
        import torch

        device = next(
            (p.device for p in self.model.parameters() if p.device.type != "meta"),
            torch.device("cpu"),
        )

        def tensors(tokens: Tokens, prefix: str = "") -> tuple[dict[str, Any], Any]:
            inputs, is_there, kept = padded(tokens, rows, self.pad)
            inputs["attention_mask"] = is_there.astype(np.int64)
            given = {
                f"{prefix}{key}": torch.from_numpy(values.astype(np.int64)).to(device)
                for key, values in inputs.items()
            }
            return given, torch.from_numpy(kept).to(device)

        inputs, kept = tensors(self.tokens)
        if self.decoder is not None:
            own, kept = tensors(self.decoder, "decoder_")
            inputs |= own
        pooled: dict[str, Any] = {}

        def record(layer: str, value: Any) -> None:
            if layer in pooled:
                raise ValueError(
                    f"{self._module(layer)} runs more than once in a pass, as it does "
                    "if layers share weights, so its activations would belong to "
                    "several layers. Give other modules."
                )
            activations = _by_token(value, kept.shape, self._module(layer))
            pooled[layer] = POOLS[self.pool](activations, kept.to(activations.device))

        with torch.inference_mode(), _hooked(self.found, record):
            _call(self.called, inputs)
        silent = [layer for layer in self.found.modules if layer not in pooled]
        if silent:
            raise ValueError(
                f"{self._module(silent[0])} does not run when texts pass through "
                f"the model, nor do {len(silent) - 1} others of those to capture. Give "
                "other modules."
            )
        return {layer: self._checked(layer, pooled[layer]) for layer in pooled}

    @property
    def called(self) -> Any:
        """Give the module to call: the encoder alone if the decoder is not wanted."""
        return self.model.get_encoder() if self.part == "encoder" else self.model

    def _module(self, layer: str) -> str:
        names = dict(zip(self.found.modules, self.found.names, strict=True))
        return f"The module {names[layer]!r}"

    def _checked(self, layer: str, pooled: Any) -> np.ndarray:
        values: np.ndarray = pooled.cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self._module(layer)} has activations that are NaN or infinite, as "
                f"happens if {values.dtype} is too narrow for them. Use the model in "
                "bfloat16 or float32 (model.float())."
            )
        return values


def _by_token(value: Any, shape: tuple[int, int], module: str) -> Any:
    """Give activations of shape (texts, tokens, neurons)."""
    if isinstance(value, tuple | list) and value:
        value = value[0]  # as blocks give, before their attention weights
    if not hasattr(value, "detach") or not value.is_floating_point():
        raise TypeError(
            f"{module} must take and give tensors of real numbers; got "
            f"{getattr(value, 'dtype', type(value).__name__)}. Give other modules."
        )
    n_texts, n_tokens = shape
    if value.ndim == 2 and value.shape[0] == n_texts * n_tokens:
        return value.reshape(n_texts, n_tokens, -1)
    if value.ndim != 3 or tuple(value.shape[:2]) != (n_texts, n_tokens):
        raise ValueError(
            f"{module} must have a vector for each token, in the shape (texts, tokens, "
            f"neurons); got {tuple(value.shape)} for {n_texts} texts of {n_tokens} "
            "tokens. Give other modules."
        )
    return value


def _narrow(activations: Any) -> Any:
    """Give the type in which activations are stored: theirs, if NumPy has it."""
    import torch

    kept = (torch.float16, torch.float32, torch.float64)
    return activations.dtype if activations.dtype in kept else torch.float32


def _wide(activations: Any) -> Any:
    """Give activations in a type in which they can be added up."""
    return activations if activations.dtype.itemsize >= 4 else activations.float()


def _mean(activations: Any, kept: Any) -> Any:
    values = _wide(activations)
    weights = kept.to(values.dtype)
    weights /= weights.sum(dim=1, keepdim=True).clamp(min=1)
    return (weights[:, None, :] @ values)[:, 0].to(_narrow(activations))


def _max(activations: Any, kept: Any) -> Any:
    lowest = float("-inf")
    largest = _wide(activations).masked_fill(~kept[..., None], lowest).amax(dim=1)
    return largest.masked_fill(largest == lowest, 0).to(_narrow(activations))


def _last(activations: Any, kept: Any) -> Any:
    import torch

    n_texts, n_tokens = kept.shape
    place = (kept * torch.arange(1, n_tokens + 1, device=kept.device)).amax(dim=1) - 1
    texts = torch.arange(n_texts, device=kept.device)
    last = activations[texts, place.clamp(min=0)].to(_narrow(activations))
    return last.masked_fill(place[:, None] < 0, 0)


def _tokens(activations: Any, kept: Any) -> Any:
    # At once to the CPU: one layer's of all tokens, not all layers'.
    return activations[kept].to(_narrow(activations)).cpu()


# Rows of activations (texts, tokens, neurons), by which tokens are kept. A text without
# such is a row of zeros, but where rows are tokens.
POOLS = {"mean": _mean, "max": _max, "last": _last, "tokens": _tokens}


@contextmanager
def _hooked(found: Found, record: Any) -> Iterator[None]:
    """Call `record` with each layer and what its module takes or gives."""

    def taken(layer: str) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            record(layer, next(iter((*args, *kwargs.values())), None))

        return hook

    def given(layer: str) -> Any:
        return lambda _, __, output: record(layer, output)

    handles = []
    try:
        for layer, module in found.modules.items():
            handles.append(
                module.register_forward_pre_hook(taken(layer), with_kwargs=True)
                if found.side == "input"
                else module.register_forward_hook(given(layer))
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run a model without dropout, and restore each module afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _call(model: Any, inputs: dict[str, Any]) -> None:
    """Call a model with the inputs that it takes."""
    given = {
        name: value
        for name, value in (inputs | _LEFT_OUT).items()
        if _takes(model, name) and (name in inputs or name in _parameters(model))
    }
    if "input_ids" in given:
        model(**given)
    else:
        model(inputs["input_ids"], **given)


def _takes(model: Any, name: str) -> bool:
    """Tell whether a model takes an input of that name.

    A wrapper that takes any input does, unless it names some itself.
    """
    parameters = _parameters(model)
    anything = any(
        kind == inspect.Parameter.VAR_KEYWORD for kind in parameters.values()
    )
    return name in parameters or (anything and "input_ids" not in parameters)


def _parameters(model: Any) -> dict[str, Any]:
    signature = inspect.signature(model.forward)
    return {name: own.kind for name, own in signature.parameters.items()}
