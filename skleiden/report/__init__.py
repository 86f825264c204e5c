"""Write communities as one HTML page to browse, search and share.

:func:`write_report` shows the communities of one fit: a map of the rows, and a list to
search and sort, in which each community opens to show its prompts, words, neurons and
layers. If they have a tree, it also shows communities within communities.
:func:`write_comparison` shows how far two fits agree, and which rows moved.

A page is one file that needs no network. It shows prompts as text, and runs no script
but its own. Writing it needs jinja2: ``pip install "skleiden[report]"``.

Examples
--------
>>> import pathlib, tempfile
>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.datasets import make_layered_activations
>>> from skleiden.inspection import describe_communities
>>> from skleiden.report import write_report
>>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
...     MutualKNNLeiden(random_state=0),
... ).fit(stack)
>>> page = pathlib.Path(tempfile.mkdtemp(), "communities.html")
>>> write_report(page, describe_communities(pipeline, stack))
>>> page.exists()
True

Show what changes with another number of communities:

>>> from sklearn.base import clone
>>> from skleiden.inspection import compare
>>> from skleiden.report import write_comparison
>>> other = clone(pipeline).set_params(mutualknnleiden__n_clusters=8).fit(stack)
>>> page = page.with_name("comparison.html")
>>> write_comparison(page, compare(pipeline, other), titles=("4", "8"))
>>> page.exists()
True
"""

from ._comparison import write_comparison
from ._page import write_report

__all__ = ["write_comparison", "write_report"]
