"""Tell what communities mean: their prompts, words, neurons and layers.

The functions take the labels of the rows, or a fitted estimator, and the layers.
:func:`describe_communities` does most of this at once.
:func:`skleiden.report.write_report` shows its result,
:func:`skleiden.io.save_communities` saves it, and its method ``to_frame()`` makes it a
table.

Examples
--------
Communities of prompts, with the weights of layers that :mod:`skleiden.model_selection`
finds. A sketcher that is given none finds them in each fit, which takes most of its
time:

>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.datasets import load_prompt_activations
>>> activations = load_prompt_activations()
>>> weights = [0.102, 0.002, 0.003, 0.002, 0.014, 1.0]
>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(layer_weights=weights, random_state=0),
...     MutualKNNLeiden(random_state=0),
... )
>>> labels = pipeline.fit_predict(activations.data)

**Which prompts and which neurons?** :func:`members` lists the rows of each community,
:func:`keywords` its words, in any language, and :func:`top_features` the neurons that
set it apart, by the activations as they were given. Their *effect size* is Cohen's d:
the difference of the mean activations inside and outside, in standard deviations.

>>> from skleiden.inspection import keywords, members, top_features
>>> print(members(labels, activations.prompts)[5][0])
Must a beginner know the symbol of gold, carbon atoms or covalent bonds?
>>> keywords(activations.prompts, labels)[5][:3]
['ph', 'bonds', 'carbon']
>>> strongest = top_features(activations.data, labels, n_features=3)[5][0]
>>> print(
...     f"{strongest.layer}:{strongest.neuron} d={strongest.effect_size:.1f}, fires in "
...     f"{strongest.share:.0%} of members, {strongest.baseline_share:.0%} of others"
... )
layer_4:407 d=5.6, fires in 100% of members, 17% of others

**What does one neuron do?** :func:`neuron` finds the prompts and the communities in
which it fires most:

>>> from skleiden.inspection import neuron
>>> one = neuron(activations.data, "layer_4", 407, labels, texts=activations.prompts)
>>> print(one.strongest[0].text)
Please discuss the pH scale, sodium, catalysts and carbon atoms.
>>> for line in one.describe()[:2]:
...     print(line)
layer_4:407 fires (above 0) in 20.1% of 1268 rows; mean 0.0423
in 100.0% of community 5, effect 5.60

**Do the neurons of a community hold for prompts that they were not chosen on?** Here
ten neurons are chosen on one half of the prompts. In the other half, the sum of their
activations alone tells the community's members from other prompts (area under the ROC
curve; .5 is chance):

>>> import numpy as np
>>> from sklearn.metrics import roc_auc_score
>>> shuffled = np.random.RandomState(0).permutation(len(labels))
>>> seen, held_out = np.array_split(shuffled, 2)
>>> chosen = top_features(activations.data[seen], labels[seen], n_features=10)
>>> rows = dict(zip(activations.data.names, activations.data[held_out].layers))
>>> score = sum(rows[n.layer][:, [n.neuron]].toarray()[:, 0] for n in chosen[5])
>>> bool(roc_auc_score(labels[held_out] == 5, score) > 0.99)
True

**Why is one prompt where it is?** :func:`explain` takes the difference between its mean
similarity to its community and to all other prompts, and divides it among the neurons:

>>> from skleiden.inspection import explain
>>> why = explain(pipeline, activations.data, row=0, n_features=1)
>>> print(f"similarity {why.similarity:.2f} inside, {why.baseline:.2f} outside")
similarity 0.28 inside, 0.19 outside

**In which layers does a community show?** :func:`layer_agreement` tells how well each
layer alone keeps it together. :func:`prototypes` gives its mean activations, and
:func:`representatives` its most central and its most borderline rows.

**How strongly is a prompt tied to its community?** The clusterer's ``strength_`` tells
it, from 0 to 1. The community of a prompt with a low strength means little:

>>> weakest = pipeline[-1].strength_.argmin()
>>> bool(pipeline[-1].strength_[weakest] < 0.2)
True

**What are communities called?** :func:`describe_communities` names each by its first
keywords. It can also be given names, for some or all, or a function that makes them
(``namer=``, which may ask a language model):

>>> from skleiden.inspection import describe_communities
>>> found = describe_communities(
...     pipeline, activations.data, texts=activations.prompts, names={5: "Chemistry"}
... )
>>> found.names[0], found.names[5]
('functions, python, database', 'Chemistry')

**Are there communities within communities?** :func:`community_tree` divides all rows,
and each part again, as long as random halves of the links find the same parts. It uses
the links of the fitted estimator, not its communities. :func:`split` divides one of the
estimator's communities, and leaves the others as they are:

>>> from skleiden.inspection import community_tree, split
>>> tree = community_tree(pipeline, texts=activations.prompts)
>>> tree
<CommunityTree: 1 > 2 > 13 > 25 > 29 communities>
>>> int(tree.labels_at(2).max()) + 1
13
>>> parts = split(pipeline, 0)
>>> parts
<Split: 2 parts of 50, 47 rows, found again (0.98)>
>>> set(parts.labels.tolist()) - set(labels.tolist())  # the other part has a new number
{24}

The page shows the tree if it is given to ``describe_communities(..., tree=tree)``.

**Which neurons fire together?** ``stack.neurons()`` has the neurons of all layers as
rows. A pipeline groups them, here those of two layers, by their correlation over the
prompts.
:func:`cross_table` then tells which groups *drive* which communities of prompts: those
in which their neurons are more active than by chance:

>>> from skleiden import LayerStack
>>> from skleiden.inspection import cross_table
>>> last = LayerStack({name: activations.data[name] for name in ("layer_4", "layer_5")})
>>> neurons = last.neurons()
>>> grouping = make_pipeline(
...     MultiLayerTfidfSketcher(random_state=0),
...     MutualKNNLeiden(resolution=4.0, random_state=0),
... ).fit(neurons)
>>> groups = describe_communities(grouping, neurons, texts=activations.prompts)
>>> groups.keywords[0]
['python', 'arrays', 'numpy', 'list', 'functions']
>>> drives = cross_table(labels, groups.labels, last)
>>> print(drives.describe()[0])
group 0 (119 neurons, layers layer_4 and layer_5) drives communities 0, 12, 22 and 2

**What changed?** :func:`compare` tells how far two runs agree (``ami``, adjusted mutual
information), which rows moved, and which communities split or merged:

>>> from skleiden.inspection import compare
>>> other = MutualKNNLeiden(resolution=2.0, random_state=0)
>>> embedding = pipeline[:-1].transform(activations.data)
>>> changes = compare(labels, other.fit_predict(embedding))
>>> print(f"{changes.ami:.2f}")
0.97
"""

from ._activity import NeuronActivity
from ._communities import Communities, describe_communities
from ._compare import Comparison, compare
from ._cross_table import CrossTable, DrivingPair, cross_table
from ._explain import Contribution, Explanation, explain
from ._features import TopFeature, prototypes, top_features
from ._graph import (
    CommunityMap,
    Representative,
    Representatives,
    community_map,
    graph_summary,
    representatives,
)
from ._keywords import keywords
from ._layers import layer_agreement
from ._members import members, summarize
from ._neuron import ActiveRow, Neuron, neuron
from ._tree import CommunityTree, Split, TreeNode, community_tree, split

__all__ = [
    "ActiveRow",
    "Communities",
    "CommunityMap",
    "CommunityTree",
    "Comparison",
    "Contribution",
    "CrossTable",
    "DrivingPair",
    "Explanation",
    "Neuron",
    "NeuronActivity",
    "Representative",
    "Representatives",
    "Split",
    "TopFeature",
    "TreeNode",
    "community_map",
    "community_tree",
    "compare",
    "cross_table",
    "describe_communities",
    "explain",
    "graph_summary",
    "keywords",
    "layer_agreement",
    "members",
    "neuron",
    "prototypes",
    "representatives",
    "split",
    "summarize",
    "top_features",
]
