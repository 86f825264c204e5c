"""Data to try the library on: real activations and synthetic ones."""

from ._prompt_activations import load_prompt_activations
from ._synthetic import make_layered_activations

__all__ = ["load_prompt_activations", "make_layered_activations"]
