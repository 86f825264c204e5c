"""Draw communities with displays like scikit-learn's. Needs matplotlib.

- :class:`CommunityMapDisplay`: each row as a point near the rows that it is linked to;
- :class:`CommunitySizesDisplay`: how many rows each community has;
- :class:`CommunityTreeDisplay`: communities within communities;
- :class:`LayerAgreementDisplay`: which layers keep each community together;
- :class:`PrototypeHeatmapDisplay`: mean activations of the communities' neurons;
- :class:`CrossTableDisplay`: which groups of neurons drive which communities;
- :class:`ResolutionProfileDisplay` and :class:`LayerProfileDisplay`: which resolutions,
  and which layers, find the same communities again.

The displays of the map, the sizes, the agreement of layers and the prototypes have
class methods ``from_estimator`` and ``from_predictions``. Trees, cross tables and
profiles have a method ``plot()`` that makes their display. All of them draw on the axes
that they are given, or on new ones, and keep these as ``ax_`` (or ``axes_``) and
``figure_``.

Examples
--------
>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.datasets import load_prompt_activations
>>> from skleiden.plotting import CommunityMapDisplay
>>> activations = load_prompt_activations()
>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
...     MutualKNNLeiden(random_state=0),
... ).fit(activations.data)
>>> display = CommunityMapDisplay.from_estimator(pipeline)
>>> display.figure_.savefig("map.png", bbox_inches="tight")  # doctest: +SKIP
"""

from skleiden._figures import png
from skleiden._palette import community_colors
from skleiden.inspection._plot.cross_table import CrossTableDisplay
from skleiden.inspection._plot.layer_agreement import LayerAgreementDisplay
from skleiden.inspection._plot.map import CommunityMapDisplay
from skleiden.inspection._plot.prototypes import PrototypeHeatmapDisplay
from skleiden.inspection._plot.sizes import CommunitySizesDisplay
from skleiden.inspection._plot.tree import CommunityTreeDisplay
from skleiden.model_selection._plot import (
    LayerProfileDisplay,
    ResolutionProfileDisplay,
)

__all__ = [
    "CommunityMapDisplay",
    "CommunitySizesDisplay",
    "CommunityTreeDisplay",
    "CrossTableDisplay",
    "LayerAgreementDisplay",
    "LayerProfileDisplay",
    "PrototypeHeatmapDisplay",
    "ResolutionProfileDisplay",
    "community_colors",
    "png",
]
