"""Communities in high-dimensional, multi-layer data, the scikit-learn way."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._align import align_layers
    from ._clusterer import MutualKNNLeiden
    from ._layers import LayerStack
    from ._neighbors import FaissKNeighborsTransformer
    from ._sketcher import MultiLayerTfidfSketcher

__all__ = [
    "FaissKNeighborsTransformer",
    "LayerStack",
    "MultiLayerTfidfSketcher",
    "MutualKNNLeiden",
    "__version__",
    "align_layers",
]

__version__ = "0.1.0"

# Imported when first asked for, so that the command can show its help, or be stopped,
# without waiting for scikit-learn.
_MODULES = {
    "FaissKNeighborsTransformer": "_neighbors",
    "LayerStack": "_layers",
    "MultiLayerTfidfSketcher": "_sketcher",
    "MutualKNNLeiden": "_clusterer",
    "align_layers": "_align",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
