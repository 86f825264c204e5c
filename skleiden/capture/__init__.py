"""Capturing what a model's neurons do on texts."""

from ._capture import capture_activations
from ._tokens import token_contexts

__all__ = ["capture_activations", "token_contexts"]
