"""Choosing parameters: what a clusterer finds again with other seeds and samples."""

from ._consensus import StableLeiden, consensus
from ._layers import LayerProfile, layer_profile
from ._null import permute_columns
from ._profile import ResolutionProfile, resolution_profile
from ._scorers import (
    community_stability,
    make_prediction_stability_scorer,
    make_stability_scorer,
)
from ._search import (
    FullDataSplit,
    select_finest_stable,
    select_informative,
    select_stable,
)

__all__ = [
    "FullDataSplit",
    "LayerProfile",
    "ResolutionProfile",
    "StableLeiden",
    "community_stability",
    "consensus",
    "layer_profile",
    "make_prediction_stability_scorer",
    "make_stability_scorer",
    "permute_columns",
    "resolution_profile",
    "select_finest_stable",
    "select_informative",
    "select_stable",
]
