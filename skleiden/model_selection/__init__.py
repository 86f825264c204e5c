"""Choose parameters and layers by what is found again, without labels.

No score of a partition, a division of the rows into communities, is good for all
graphs: modularity, for example, grows when neighbours are taken away. What can be asked
is whether the same communities are found again, with other random seeds and from other
neurons: their *stability*. It should be higher than in the *null*, the same data with
each column shuffled, in which there is nothing to find. A partition that agrees with
others by accident, such as a single community, scores 0.

Examples
--------
>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.datasets import load_prompt_activations
>>> activations = load_prompt_activations()
>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
... )

**A grid search.** :func:`make_stability_scorer` runs the whole pipeline several times,
and compares the partitions. With ``vary=["all", "neurons"]`` each run has other seeds
and sees another half of each layer's neurons. The metric ``"shared_information"`` is
the mutual information of two runs, less what chance gives, in nats: what one says of
the rows and the other confirms. It does not grow by divisions that are not found again.
The search needs no held-out rows, because there are no labels to predict:
:class:`FullDataSplit` gives it one split that holds all rows:

>>> from sklearn.model_selection import GridSearchCV
>>> from skleiden.model_selection import FullDataSplit, make_stability_scorer
>>> search = GridSearchCV(
...     pipeline,
...     {"mutualknnleiden__n_neighbors": [15, 40]},
...     scoring=make_stability_scorer(
...         2, vary=["all", "neurons"], metrics="shared_information"
...     ),
...     cv=FullDataSplit(),
... ).fit(activations.data)
>>> search.best_params_
{'mutualknnleiden__n_neighbors': 15}

:func:`select_stable`, :func:`select_informative` and :func:`select_finest_stable` are
rules for ``refit`` in searches with several metrics, and
:func:`make_prediction_stability_scorer` is for ordinary ``KFold``.

**The resolution.** :func:`resolution_profile` makes the graph once and finds its
communities at many resolutions, beside the null:

>>> from skleiden.model_selection import resolution_profile
>>> profile = resolution_profile(
...     search.best_estimator_, activations.data, resolutions=[1.0, 4.0, 50.0]
... )
>>> profile.table["n_clusters"].round().tolist()
[29.0, 29.0, 157.0]
>>> profile.best()
1.0

``profile.table`` (and ``profile.to_frame()``, which needs pandas) has for each
resolution the stability, its null, the information, sizes and more; ``profile.plot()``
draws them.
``profile.best()`` refuses to choose where no resolution is above its null, and
``levels`` names the scales at which stability peaks. With ``n_sketches=5`` the sketch
varies as well as Leiden's seed; with ``vary="neurons"`` every run sees other neurons,
the hardest test. A number for `resolutions` lets the range be found from the graph.

**The layers.** :func:`layer_profile` shows how well two halves of each layer's neurons
agree on the communities, beside the same for shuffled neurons, and the weights that
``layer_weights="auto"`` takes from it:

>>> from skleiden.model_selection import layer_profile
>>> layers = layer_profile(pipeline, activations.data)
>>> for name, weight in layers.weights_.items():
...     print(f"{name} {weight:.3f}")
layer_0 0.131
layer_1 0.001
layer_2 0.001
layer_3 0.001
layer_4 0.017
layer_5 1.000

**One run among many.** :class:`StableLeiden` keeps the most typical of several runs.
Its ``stability_`` says how well the runs agree, and its ``confidence_``, for each row,
which share of the other runs put it into the same community:

>>> from skleiden.model_selection import StableLeiden
>>> stable = StableLeiden(search.best_estimator_, random_state=0).fit(activations.data)
>>> print(f"{stable.stability_:.2f}, sure of {(stable.confidence_ == 1).mean():.0%}")
0.99, sure of 99%

:func:`consensus` does the same with partitions at hand, and
:func:`community_stability` tells how well each community survives subsampling; with
``vary="prompts"``, whether groups of neurons come again from other prompts.
"""

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
