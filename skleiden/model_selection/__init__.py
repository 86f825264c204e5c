"""Choose parameters and layers without labels, by what is found again.

No score of a *partition*, a division of the rows into communities, is good for all
graphs: modularity, for example, grows when neighbours are taken away. But one can ask
whether the same communities are found again with other random seeds and from other
neurons: this is their *stability*. It should be higher than in the *null*, the same
data with each column shuffled, in which there is nothing to find. Partitions that agree
by accident, such as two that each have a single community, score 0.

Examples
--------
>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.datasets import load_prompt_activations
>>> activations = load_prompt_activations()

**The layers.** :func:`layer_profile` shows how well two halves of each layer's neurons
agree on the communities, beside the same for shuffled neurons (which take as long, and
are left out here), and the weights that follow from it, by the rule of
``layer_weights="auto"``:

>>> from skleiden.model_selection import layer_profile
>>> layers = layer_profile(None, activations.data, n_splits=2, n_permutations=0)
>>> for name, weight in layers.weights_.items():
...     print(f"{name} {weight:.3f}")
layer_0 0.102
layer_1 0.002
layer_2 0.003
layer_3 0.002
layer_4 0.014
layer_5 1.000

A pipeline whose weights are stated is many times as quick as one that finds them in
each fit, and all runs that follow are of the same weights:

>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(layer_weights=layers.weights_, random_state=0),
...     MutualKNNLeiden(random_state=0),
... )

**A grid search.** :func:`make_stability_scorer` runs the whole pipeline several times,
and compares the partitions. With ``vary=["all", "neurons"]`` each run has other seeds
and sees another half of each layer's neurons. The metric ``"shared_information"`` is
the mutual information of two runs beyond chance, in nats: what one run says of the rows
and the other confirms. Divisions that are not found again do not raise it. A clusterer
has no labels to predict, so the search needs no held-out rows: :class:`FullDataSplit`
gives it one split that holds all rows:

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
rules for ``refit`` in searches with several metrics.
:func:`make_prediction_stability_scorer` is a scorer for ordinary ``KFold``.

**The resolution.** :func:`resolution_profile` makes the graph once, finds its
communities at many resolutions, and does the same with the null:

>>> from skleiden.model_selection import resolution_profile
>>> profile = resolution_profile(
...     search.best_estimator_, activations.data, resolutions=[1, 4, 50], n_runs=3
... )
>>> profile.table["n_clusters"].round().tolist()
[29.0, 29.0, 156.0]
>>> profile.best()
1.0

``profile.table`` (and ``profile.to_frame()``, which needs pandas) has for each
resolution the stability, its null, the information, sizes and more, and
``profile.plot()`` draws them. ``profile.best()`` refuses to choose if no resolution is
above its null, and ``levels`` names the scales at which stability peaks. With
``n_sketches=5`` the sketch varies as well as Leiden's seed. With ``vary="neurons"``
every run sees other neurons, which is the hardest test. If `resolutions` is a number of
them, their range is found from the graph.

**One run among many.** :class:`StableLeiden` keeps the most typical of several runs.
Its ``stability_`` says how well the runs agree, and its ``confidence_`` says of each
row which share of the other runs put it into the same community:

>>> from skleiden.model_selection import StableLeiden
>>> stable = StableLeiden(search.best_estimator_, random_state=0).fit(activations.data)
>>> print(f"{stable.stability_:.2f}, sure of {(stable.confidence_ == 1).mean():.0%}")
0.99, sure of 99%

:func:`consensus` does the same with partitions that are at hand.
:func:`community_stability` tells how well each community survives subsampling; with
``vary="prompts"``, it tells whether groups of neurons come again from other prompts.
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
