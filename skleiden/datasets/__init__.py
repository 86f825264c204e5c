"""Load or make data to try the library on.

:func:`load_prompt_activations` has real activations of a small language model on 1,268
prompts of 29 themes, in 6 layers. :func:`make_layered_activations` makes sparse layers
of any size with planted communities, and with groups of neurons that drive them.
"""

from ._prompt_activations import load_prompt_activations
from ._synthetic import make_layered_activations

__all__ = ["load_prompt_activations", "make_layered_activations"]
