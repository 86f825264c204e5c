"""Communities in high-dimensional, multi-layer data, the scikit-learn way."""

from .clusterer import MutualKNNLeiden
from .layers import LayerStack, align_layers
from .neighbors import FaissKNeighborsTransformer
from .sketcher import MultiLayerTfidfSketcher

__all__ = [
    "FaissKNeighborsTransformer",
    "LayerStack",
    "MultiLayerTfidfSketcher",
    "MutualKNNLeiden",
    "__version__",
    "align_layers",
]

__version__ = "0.1.0"
