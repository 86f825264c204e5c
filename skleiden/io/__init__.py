"""Files of activations in, communities out."""

from ._activations import load_activations, load_texts
from ._anndata import to_anndata
from ._communities import load_communities, save_communities
from ._estimators import load_estimator, save_estimator
from ._labels import save_labels

__all__ = [
    "load_activations",
    "load_communities",
    "load_estimator",
    "load_texts",
    "save_communities",
    "save_estimator",
    "save_labels",
    "to_anndata",
]
