"""Figures of communities, as scikit-learn displays. Needs matplotlib."""

from skleiden._figures import png
from skleiden._palette import community_colors
from skleiden.inspection._plot.cross_table import CrossTableDisplay
from skleiden.inspection._plot.layer_agreement import LayerAgreementDisplay
from skleiden.inspection._plot.map import CommunityMapDisplay
from skleiden.inspection._plot.prototypes import PrototypeHeatmapDisplay
from skleiden.inspection._plot.sizes import CommunitySizesDisplay
from skleiden.model_selection._plot import (
    LayerProfileDisplay,
    ResolutionProfileDisplay,
)

__all__ = [
    "CommunityMapDisplay",
    "CommunitySizesDisplay",
    "CrossTableDisplay",
    "LayerAgreementDisplay",
    "LayerProfileDisplay",
    "PrototypeHeatmapDisplay",
    "ResolutionProfileDisplay",
    "community_colors",
    "png",
]
