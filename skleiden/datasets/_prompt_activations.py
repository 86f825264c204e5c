"""Load activations that come with the package, on prompts of known themes."""

from __future__ import annotations

from importlib import resources
from typing import Literal, overload

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch

from skleiden._layers import LayerStack

DESCR = """\
Activations of a sentence encoder on prompts of 29 themes
---------------------------------------------------------

1,268 short English prompts on 29 themes (39 to 50 each), as a sentence encoder sees
them: 6 layers of 1,536 neurons. Rows are prompts, and themes are mixed.

**Prompts.** They were written for this data set: a program put things, claims and tasks
of a theme into 40 phrasings that all themes share ("Compare ...", "Is it true that
..."). The phrasing does not give the theme away, and some themes are close on purpose:
physics and astronomy, Python and debugging, anatomy and medicine. Claims are true; as
the parts are put together mechanically, some prompts read oddly.

**Activations.** They come from all-MiniLM-L6-v2 (sentence-transformers; Apache License
2.0). In each layer, the outputs of the activation function between the two halves of
the feed-forward block are averaged over the tokens of the prompt, without special
tokens; averages that are not positive are dropped.

**Precision.** Values have 8 bits: they are multiples of a 255th of the largest value in
their layer. Values below half of such a step are dropped, too. In the table, density is
the share of values left, relative error is that of the whole layer in the Frobenius
norm, and largest error is that of a single value.

======== ======= ============= ============== =============
layer    density largest value relative error largest error
======== ======= ============= ============== =============
layer_0    0.344          1.75          0.012        0.0034
layer_1    0.258          1.48          0.015        0.0029
layer_2    0.236          2.48          0.020        0.0049
layer_3    0.265          2.46          0.016        0.0048
layer_4    0.337          1.69          0.011        0.0033
layer_5    0.291          2.53          0.012        0.0050
======== ======= ============= ============== =============

**Use.** For examples and tests. The data cannot show that a method is good:

- Prompts were reworded until communities found with a count sketch, mutual nearest
  neighbours and Leiden agreed well with the themes. With a single subject in each
  prompt they followed the phrasing instead, and most prompts now name three or four.
- The same subjects recur in many prompts of a theme, so that the rows of a theme are
  far from independent and a random split into training and test rows leaks.
- A theme has hardly more members than the usual number of neighbours, 40.
- It is one small encoder of English, and no generative model.
"""


@overload
def load_prompt_activations(*, return_X_y: Literal[False] = ...) -> Bunch: ...


@overload
def load_prompt_activations(
    *, return_X_y: Literal[True]
) -> tuple[LayerStack, np.ndarray]: ...


def load_prompt_activations(
    *, return_X_y: bool = False
) -> Bunch | tuple[LayerStack, np.ndarray]:
    """Load the activations of a sentence encoder on prompts of known themes.

    The data come with the package. They are the mean activations, over the tokens of
    short prompts on subjects from anatomy to weather, of the neurons in all 6 layers of
    all-MiniLM-L6-v2. All themes share the same phrasings. `DESCR` tells what the data
    are not good for.

    =================   ===========================
    Themes                                       29
    Prompts per theme                      39 to 50
    Prompts                                   1,268
    Layers                                        6
    Neurons per layer                         1,536
    Values              sparse, positive, 24 to 34%
    =================   ===========================

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a `Bunch`.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : LayerStack of shape (1268, 9216)
            The activations: float32 CSR arrays named ``layer_0`` to ``layer_5``, with
            the prompts' ids.
        target : ndarray of shape (1268,), dtype int64
            The theme of each prompt, as a position in `target_names`.
        target_names : ndarray of shape (29,), dtype str
            The names of the themes, in alphabetical order.
        themes : ndarray of shape (1268,), dtype str
            The name of the theme of each prompt.
        prompts : ndarray of shape (1268,), dtype str
            The texts.
        ids : ndarray of shape (1268,), dtype str
            A name for each prompt, such as ``"capitals-003"``.
        DESCR : str
            What the data are, how they were made and what they are not good for.

    (data, target) : tuple if ``return_X_y`` is True
        The `LayerStack` and the array described above.

    Examples
    --------
    >>> from skleiden.datasets import load_prompt_activations
    >>> activations = load_prompt_activations()
    >>> activations.data.shape
    (1268, 9216)
    >>> activations.data.names
    ('layer_0', 'layer_1', 'layer_2', 'layer_3', 'layer_4', 'layer_5')
    >>> print(activations.prompts[1])
    Must a beginner know the symbol of gold, carbon atoms or covalent bonds?
    >>> print(activations.themes[1])
    chemistry
    """
    source = resources.files("skleiden.datasets") / "data" / "prompt_activations.npz"
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)

    # Codes other than zero are stored, layer by layer and neuron by neuron, as in CSC.
    ids = arrays["ids"]
    is_coded = np.unpackbits(arrays["is_coded"], axis=-1, count=len(ids)).view(bool)
    n_coded = is_coded.sum(axis=2, dtype=np.int32)
    ends = np.cumsum(n_coded.sum(axis=1))
    layers = []
    for coded, counts, codes, step in zip(
        is_coded,
        n_coded,
        np.split(arrays["codes"], ends[:-1]),
        arrays["steps"],
        strict=True,
    ):
        values = codes.astype(np.float32) * step
        prompts = np.flatnonzero(coded).astype(np.int32) % np.int32(len(ids))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        columns = sp.csc_array((values, prompts, starts), shape=coded.T.shape)
        layers.append(columns.tocsr())
    data = LayerStack(layers, names=arrays["layer_names"].tolist(), ids=ids)
    target = arrays["target"].astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=arrays["target_names"],
        themes=arrays["target_names"][target],
        prompts=arrays["prompts"],
        ids=ids,
        DESCR=DESCR,
    )
