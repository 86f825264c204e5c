"""Which groups of neurons drive which communities of prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, validate_params

from skleiden._blocks.frames import frame_of, refuse_other_order
from skleiden._blocks.runner import Local
from skleiden._blocks.sources import check_only, row_batches
from skleiden._input import as_layer_stack, open_layers
from skleiden._kernels import countsketch, sample
from skleiden._layers import LayerStack
from skleiden._stages.sketch import (
    Counts,
    Reading,
    Settings,
    Sketch,
    learn,
    weighted_layers,
)

from ._features import ids_of
from ._members import Label, Labels, LabelsLike, number_labels

if TYPE_CHECKING:
    import pandas as pd

    from ._plot.cross_table import CrossTableDisplay

# Tables of permuted labels, of a hundred, in which some effect is above chance.
_FALSE_TABLES = 1
_FEWEST_PERMUTATIONS = 100 // _FALSE_TABLES - 1
# What a community's permuted effects are measured by: nine of ten are below it.
_USUAL = 0.9

# Share of a sum of squares that cancellation may leave of nothing; the same of the
# standard deviation of a group, whose neurons have deviations of 1.
_ROUNDING = 1e-12
_LEAST_DEVIATION = 1e-9
# Bits of a neuron's standard deviation that do not depend on the order of the rows.
_KEPT_BITS = 30

# Layers that are named together hold at least this share of a group.
_MOSTLY = 0.9


class DrivingPair(NamedTuple):
    """A group of neurons and a community that it drives.

    Attributes
    ----------
    group, community : int or str
        Labels of the group and of the community.

    effect : float
        Effect size, see `cross_table`.

    mean : float
        Mean activity of the group in the community.
    """

    group: Label
    community: Label
    effect: float
    mean: float


@dataclass(frozen=True, eq=False, repr=False)
class CrossTable:
    """Activity of each group of neurons in each community of prompts.

    It is made by `cross_table`. Row g of its arrays belongs to group g, and column c to
    community c; a label that no neuron, or no prompt, has is nan there. If labels are
    strings, rows and columns are in their ascending order.

    Attributes
    ----------
    means : ndarray of shape (n_groups, n_communities)
        Mean activity, in standard deviations above the mean of all prompts.

    effects : ndarray of shape (n_groups, n_communities)
        Effect size (Cohen's d) of the group's activity in the community, compared with
        the prompts in which the group rests, see `cross_table`; nan for a community of
        all prompts.

    chance : ndarray of shape (n_groups, n_communities)
        Largest effect that chance may give; nan without permutations.

    drives : ndarray of shape (n_groups, n_communities), dtype bool
        Whether the group drives the community.

    group_sizes : ndarray of shape (n_groups,), dtype int64
        Number of neurons of each group.

    community_sizes : ndarray of shape (n_communities,), dtype int64
        Number of prompts of each community.

    layers : ndarray of shape (n_groups, n_layers)
        Share of each group's neurons in each layer.

    layer_names : tuple of str of length n_layers
        Names of the layers.

    groups : list of int or str of length n_groups
        Label of each row; its number if None is given.

    communities : list of int or str of length n_communities
        Label of each column; its number if None is given.

    See Also
    --------
    cross_table : Make one.
    skleiden.plotting.CrossTableDisplay : Draw it.
    """

    means: np.ndarray
    effects: np.ndarray
    chance: np.ndarray
    drives: np.ndarray
    group_sizes: np.ndarray
    community_sizes: np.ndarray
    layers: np.ndarray
    layer_names: tuple[str, ...]
    groups: Any = None
    communities: Any = None

    def __post_init__(self) -> None:
        for name, sizes in (
            ("groups", self.group_sizes),
            ("communities", self.community_sizes),
        ):
            if getattr(self, name) is None:  # frozen for everybody else
                object.__setattr__(self, name, list(range(len(sizes))))

    @property
    def table(self) -> dict[str, np.ndarray]:
        """Pairs of a group and a community, neither of them empty, as columns."""
        present = self.group_sizes[:, None] * self.community_sizes > 0
        group, community = np.nonzero(present)
        return {
            "group": _at(self.groups, group),
            "community": _at(self.communities, community),
            "n_neurons": self.group_sizes[group],
            "n_prompts": self.community_sizes[community],
            "mean": self.means[present],
            "effect": self.effects[present],
            "chance": self.chance[present],
            "drives": self.drives[present],
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return `table` as a pandas DataFrame, one row for each pair.

        Returns
        -------
        frame : pandas.DataFrame
            Columns "group", "community", "n_neurons", "n_prompts", "mean", "effect",
            "chance" and "drives"; empty groups and communities are left out.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.table)

    def pairs(self) -> list[DrivingPair]:
        """List groups with the communities that they drive, strongest effect first.

        Returns
        -------
        pairs : list of DrivingPair
        """
        groups, communities = np.nonzero(self.drives)
        effects, means = self.effects[self.drives], self.means[self.drives]
        order = np.argsort(-effects, kind="stable")
        return [
            DrivingPair(
                self.groups[groups[pair]],
                self.communities[communities[pair]],
                float(effects[pair]),
                float(means[pair]),
            )
            for pair in order.tolist()
        ]

    def describe(self) -> list[str]:
        """Say in words which groups drive which communities.

        Returns
        -------
        lines : list of str
            A line for each group that drives a community, such as "group 12 (41
            neurons, layers mlp_3 to mlp_5) drives communities 4 and 9", with the
            strongest effect first, and a line for all groups that drive none. "mostly"
            stands before layers that hold at least nine tenths of a group's neurons,
            but not all.
        """
        lines = []
        for group in np.flatnonzero(self.drives.any(axis=1)).tolist():
            size = int(self.group_sizes[group])
            driven = np.flatnonzero(self.drives[group])
            order = np.argsort(-self.effects[group, driven], kind="stable")
            lines.append(
                f"group {self.groups[group]} ({_counted(size, 'neuron')}, "
                f"{self._place_of(group)}) drives "
                f"{_named('community', _taken(self.communities, driven[order]))}"
            )
        idle = np.flatnonzero((self.group_sizes > 0) & ~self.drives.any(axis=1))
        if idle.size:
            verb = "drives" if idle.size == 1 else "drive"
            named = _named("group", _taken(self.groups, idle))
            lines.append(f"{named} {verb} no community")
        return lines

    def plot(self, ax: Any = None) -> "CrossTableDisplay":
        """Draw the effects; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            See :class:`~skleiden.plotting.CrossTableDisplay`; new ones if None.

        Returns
        -------
        display : CrossTableDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ._plot.cross_table import CrossTableDisplay

        return CrossTableDisplay(self).plot(ax)

    def _place_of(self, group: int) -> str:
        """Name the layers of a group, or those that hold most of it."""
        shares = self.layers[group]
        order = np.argsort(-shares, kind="stable")
        enough = np.cumsum(shares[order]) >= _MOSTLY - _ROUNDING
        n_named = int(enough.argmax()) + 1
        named = np.sort(order[:n_named])
        words = _layers_named(named.tolist(), self.layer_names)
        return words if shares[named].sum() > 1 - _ROUNDING else f"mostly {words}"

    def __repr__(self) -> str:
        n_groups, n_communities = (
            int(np.count_nonzero(sizes))
            for sizes in (self.group_sizes, self.community_sizes)
        )
        return (
            f"<CrossTable: {_counted(n_groups, 'group')} of neurons, "
            f"{_counted(n_communities, 'community')} of prompts, "
            f"{_counted(int(self.drives.sum()), 'driving pair')}>"
        )


@validate_params(
    {
        "prompt_labels": "no_validation",
        "neuron_labels": "no_validation",
        "X": "no_validation",
        "layers": "no_validation",
        "n_permutations": [
            Options(Integral, {0}),
            Interval(Integral, _FEWEST_PERMUTATIONS, None, closed="left"),
        ],
        "min_effect": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def cross_table(
    prompt_labels: LabelsLike,
    neuron_labels: LabelsLike,
    X: Any,
    *,
    layers: Mapping[str, int] | Sequence[int] | None = None,
    n_permutations: int = 200,
    min_effect: float = 0.8,
    random_state: int | np.random.RandomState | None = 0,
) -> CrossTable:
    """Find which groups of neurons drive which communities of prompts.

    The activity of a group in a prompt is the mean over its neurons, each measured in
    standard deviations above its own mean, so that loud neurons do not decide alone. By
    this activity, a group divides the communities into those in which it is active and
    those in which it *rests*, at the place where the sum of squares within both parts
    is least [1]_. The effect size, Cohen's d [2]_, compares the prompts of a community
    with all other prompts in which the group rests, including those in no community.
    (Compared with all other prompts, communities that one group drives would hide each
    other.) A group *drives* a community if the effect is at least `min_effect` and
    above chance.

    Chance is what communities of the same sizes get if their prompts are drawn at
    random. In one of a hundred such draws, some effect among all groups and communities
    is above the `chance` of its pair [3]_.

    Parameters
    ----------
    prompt_labels : array-like of int or str of shape (n_samples,)
        Communities of the rows of X, as strings, integers or whole floats. A row with
        -1, or "-1", is in no community, but counts among the other prompts.

    neuron_labels : array-like of int or str of shape (n_neurons,)
        Groups of the neurons of all layers, side by side in the order of the layers. A
        neuron with -1, or "-1", is in no group, and is left out.

    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, dense or sparse. Their prompts may be those that groups
        and communities were found with, or others. Layers are read block by block,
        twice, or three times if some have values of both signs, and are not densified.
        Two numbers for each row and group are held in memory.

    layers : sequence of int, mapping of {name: width} or None, default=None
        Widths of the layers, if X is one matrix with the layers side by side.

    n_permutations : int, default=200
        Number of draws that tell what chance gives, at least 99; 0 leaves chance out.

    min_effect : float, default=0.8
        Smallest effect that counts, at least 0; Cohen calls 0.8 large. It is needed
        because, with many prompts, differences that nobody would call driving are above
        chance.

    random_state : int, RandomState instance or None, default=0
        Determines the draws. The result does not depend on the order of the rows,
        except for the last digits of the means.

    Returns
    -------
    table : CrossTable
        Means, effects, chance, and which groups drive which communities, with
        `to_frame()`, `pairs()`, `describe()` and `plot()`.

    Raises
    ------
    TypeError
        If the layers are not in this process, but Dask arrays.

    ValueError
        If the rows of X are neurons; if labels are not one-dimensional, strings or
        integers of at least -1, one for each row of X or for each neuron; if X holds
        NaN, infinity or values that overflow, or a parameter is out of range.

    See Also
    --------
    top_features : Single neurons that set each community apart.
    skleiden.plotting.CrossTableDisplay : The table as a heat map.

    Notes
    -----
    Layers are taken as a `MultiLayerTfidfSketcher` takes them by default: those after
    ReLU, GELU and their like by their positive part, others with their signs. Neurons
    that are constant in X are left out of their group's mean.

    Chance concerns the prompts, and does not ask whether the neurons of a group belong
    together. If communities differ in many neurons, groups of random neurons drive some
    of them, too, with smaller effects; ``rng.permutation(neuron_labels)`` as labels
    shows these.

    If the groups were found with the same prompts as the communities, effects are
    larger than on other prompts. To see what remains, give X and `prompt_labels` of
    prompts that had no part in it.

    References
    ----------
    .. [1] W. D. Fisher, "On grouping for maximum homogeneity", Journal of the American
       Statistical Association 53(284), 1958.
    .. [2] J. Cohen, "Statistical power analysis for the behavioral sciences", 2nd
       edition, 1988.
    .. [3] P. H. Westfall, S. S. Young, "Resampling-based multiple testing: examples
       and methods for p-value adjustment", 1993.

    Examples
    --------
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import cross_table
    >>> stack, communities, groups, planted = make_layered_activations(
    ...     500, n_neuron_groups=5, return_neuron_groups=True, random_state=0
    ... )
    >>> table = cross_table(communities, groups, stack)
    >>> bool((table.drives == planted).all())
    True
    >>> table.describe()[0]
    'group 0 (210 neurons, layers layer_1 to layer_3) drives communities 9, 3, 5 and 2'
    """
    stack = as_layer_stack(X, layers)
    if stack.row_layers is not None:
        raise ValueError(
            "cross_table takes the layers, whose rows are prompts; got a stack whose "
            "rows are neurons. Give the stack of which neurons() was called."
        )
    n, n_neurons = len(stack), sum(stack.widths)
    refuse_other_order(prompt_labels, "prompt_labels", ids_of(X, stack))
    prompts = _checked(prompt_labels, "prompt_labels", n, "row of X")
    neurons = _checked(
        neuron_labels, "neuron_labels", n_neurons, "neuron of all layers"
    )
    group_sizes, sizes = neurons.sizes, prompts.sizes

    scores, order = _scores(stack, neurons.numbers, group_sizes.size)
    groups = _Groups(scores, np.append(n - sizes.sum(), sizes))
    found = groups.contrast(np.argsort(prompts.numbers[order], kind="stable"))
    rng = check_random_state(random_state)
    chance = _chance(groups, found.errors, n_permutations, rng)
    enough = (found.effects >= min_effect) & (found.effects > 0)
    drives = enough & ~(found.effects <= chance)

    def table(values: np.ndarray, empty: Any = np.nan) -> np.ndarray:
        return neurons.placed(prompts.placed(values, empty).T, empty)

    layer_of = np.repeat(np.arange(len(stack.widths)), stack.widths)
    shares = _shares(neurons.numbers, layer_of, group_sizes, len(stack.widths))
    return CrossTable(
        table(found.means),
        table(found.effects),
        table(chance),
        table(drives, False),
        neurons.placed(group_sizes, 0),
        prompts.placed(sizes, 0),
        neurons.placed(shares, np.nan),
        stack.names,
        neurons.places,
        prompts.places,
    )


def _scores(
    stack: LayerStack, neurons: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give the activity of each group in each row, less its mean, and its squares.

    They stand side by side, of shape (n_samples, 2 * n_groups), and are 0 for groups of
    constant activity. Rows are sorted by their content, so that sums and draws are the
    same whatever the order of X; their order is returned, too.
    """
    settings = Settings("auto", True, 1.0, True, 0.0, np.dtype(np.float32))
    opened = open_layers(stack, None, check_only)
    activity, counts = learn(opened, settings, None, Reading(None, None), Local())
    weights = _weights(counts, neurons)
    each, buckets = np.ones(neurons.size), np.maximum(neurons, 0).astype(np.int32)
    sketch = Sketch(activity, (), each, weights, 0 * each, buckets, each)
    factors = sample.draw_factors(neurons.size, seed=0)
    both = np.zeros((len(stack), 2 * n_groups))
    scores, squares = both[:, :n_groups], both[:, n_groups:]
    keys = np.zeros(len(stack), dtype=np.uint64)
    start = 0
    for layer in weighted_layers(opened, sketch):
        own = slice(start, start + layer.weight.size)
        start = own.stop
        for rows in row_batches([layer.source]):
            block = layer.read(rows)
            keys[rows] += sample.row_keys(block, factors[own])
            if n_groups:
                scores[rows] += countsketch.sketch(
                    block, layer.weight, buckets[own], n_groups
                )
    order = np.argsort(keys, kind="stable")
    for of_group in scores.T:  # one by one, not all of them copied
        of_group[:] = of_group[order]
    scores -= scores.mean(axis=0)
    np.square(scores, out=squares)
    scores[:, squares.mean(axis=0) < _LEAST_DEVIATION**2] = 0
    squares[:, ~scores.any(axis=0)] = 0
    return both, order


def _weights(counts: Counts, neurons: np.ndarray) -> np.ndarray:
    """Give the weight of each neuron in its group's mean, 0 if it is constant."""
    columns = counts.columns
    deviation = columns.spread / np.sqrt(columns.n_samples)
    if not np.isfinite(deviation).all():
        raise ValueError(
            "X holds values whose standard deviation overflows float64, up to "
            f"{max(counts.highest.max(), -counts.lowest.min()):.3g}. Scale X down."
        )
    # Where a column is constant, there is 1 in place of its deviation.
    counted = (countsketch.standard_deviation(columns) == deviation) & (neurons >= 0)
    weights, groups = np.zeros(neurons.size), neurons[counted]
    weights[counted] = 1 / _rounded(deviation[counted]) / np.bincount(groups)[groups]
    return weights


class _Contrast(NamedTuple):
    """Communities compared; arrays of shape (n_communities, n_groups).

    `errors` are the standard errors of `effects` where there is no difference.
    """

    means: np.ndarray
    effects: np.ndarray
    errors: np.ndarray


class _Groups(NamedTuple):
    """Groups of neurons, to be compared between communities.

    `scores` are those of `_scores`; `sizes` are the numbers of rows in no community,
    and in each community.
    """

    scores: np.ndarray
    sizes: np.ndarray

    def contrast(self, order: np.ndarray) -> _Contrast:
        """Compare communities; in this order, rows are in none, then in 0, 1, ..."""
        n, stops = order.size, np.cumsum([0, *self.sizes])
        members = sp.csr_array((np.ones(n), order, stops), (self.sizes.size, n))
        values, squares = np.hsplit(members @ self.scores, 2)
        counts = np.broadcast_to(self.sizes[:, None].astype(np.float64), values.shape)
        sums = np.stack([counts, values, squares])
        of_none, own = sums[:, 0], sums[:, 1:]
        active = _active(own, n)
        resting = of_none + (own * ~active).sum(axis=1)
        rest = resting[:, None] - own * ~active
        others = sums.sum(axis=1)[:, None] - own
        rest = np.where(rest[0] > 0, rest, others)  # of the only one that rests
        with np.errstate(divide="ignore", invalid="ignore"):
            means, errors = own[1] / own[0], np.sqrt(1 / own[0] + 1 / rest[0])
        return _Contrast(means, _cohens_d(own, rest), errors)


def _active(own: np.ndarray, n: int) -> np.ndarray:
    """Tell in which communities each group is active: above its best division.

    `own` are numbers of rows, sums and sums of squares, of shape
    (3, n_communities, n_groups), of scores of mean 0.
    """
    counts, values, _ = own
    if values.size == 0:
        return np.zeros(values.shape, dtype=bool)
    means = np.where(counts > 0, values / np.maximum(counts, 1), -np.inf)
    order = np.argsort(-means, axis=0, kind="stable")
    above = np.cumsum(np.take_along_axis(values, order, axis=0), axis=0)
    n_above = np.cumsum(np.take_along_axis(counts, order, axis=0), axis=0)
    n_below = n - n_above
    # Of the sums of squares, what is between both parts: the most is the best. Rows in
    # no community are below, where those of all may be above their mean.
    between = np.maximum(above, 0) ** 2 / (n_above * np.maximum(n_below, 1))
    between[n_below == 0] = 0
    is_above = np.arange(len(order))[:, None] <= between.argmax(axis=0)
    active = np.empty(means.shape, dtype=bool)
    np.put_along_axis(active, order, is_above & (between.max(axis=0) > 0), axis=0)
    return active & (counts > 0)


def _cohens_d(own: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Give effect sizes from sums as in `_active`; nan where either side has no row."""
    (n, value, square), (n_rest, value_rest, square_rest) = own, rest
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = value / n - value_rest / n_rest
        squares = square + square_rest
        within = squares - value**2 / n - value_rest**2 / n_rest
        within = np.maximum(within, _ROUNDING * squares)
        effect = difference / np.sqrt(within / np.maximum(n + n_rest - 2, 1))
    effect = np.where(squares > 0, effect, 0.0)
    return np.where((n > 0) & (n_rest > 0), effect, np.nan)


def _chance(
    groups: _Groups, errors: np.ndarray, n_permutations: int, rng: np.random.RandomState
) -> np.ndarray:
    """Give the effects that chance may reach, one for each of the standard errors.

    Draws are compared by effects over their standard errors. In small communities these
    are larger by chance, the more so the longer the tails of scores are; so those of
    each community are measured in units of what is usual for it.
    """
    n, sizes = len(groups.scores), groups.sizes[1:]
    told = (sizes > 0) & (sizes < n)
    if n_permutations == 0 or not told.any() or not groups.scores.any():
        return np.full(errors.shape, np.nan)
    largest = np.empty((n_permutations, np.count_nonzero(told)))
    for of_draw in largest:
        drawn = groups.contrast(rng.permutation(n))
        of_draw[:] = (drawn.effects[told] / drawn.errors[told]).max(axis=1)
    # At least 1: where few prompts are active, most draws have none of them.
    usual = np.maximum(np.quantile(largest, _USUAL, axis=0), 1)
    highest = np.sort((largest / usual).max(axis=1))
    rank = -(-(100 - _FALSE_TABLES) * (n_permutations + 1) // 100)
    limits = np.full(sizes.size, np.nan)
    limits[told] = highest[rank - 1] * usual
    return limits[:, None] * errors


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round numbers to the bits that do not depend on the order of a sum."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(fraction, _KEPT_BITS)), exponent - _KEPT_BITS)


def _shares(
    neurons: np.ndarray, layer_of: np.ndarray, sizes: np.ndarray, n_layers: int
) -> np.ndarray:
    """Give the share of each group that is in each layer; nan of an empty group."""
    placed = neurons >= 0
    cells = neurons[placed] * n_layers + layer_of[placed]
    counts = np.bincount(cells, minlength=sizes.size * n_layers)
    with np.errstate(invalid="ignore"):
        return counts.reshape(sizes.size, n_layers) / sizes[:, None]


def _checked(labels: Any, name: str, n: int, what: str) -> Labels:
    """Read labels, refused by name if they are not one for each of n things."""
    try:
        numbered = number_labels(labels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if numbered.numbers.size != n:
        raise ValueError(
            f"{name} must give one label for each {what}; got {numbered.numbers.size} "
            f"for {n}. Pass labels of prompts first and of neurons second, of the same "
            "rows and layers as X."
        )
    return numbered


def _taken(labels: Sequence[Any], places: np.ndarray) -> list[Any]:
    return [labels[place] for place in places.tolist()]


def _at(labels: Sequence[Any], places: np.ndarray) -> np.ndarray:
    """Give the labels at some places, as a column of a table."""
    dtype = object if labels and isinstance(labels[0], str) else np.int64
    return np.array(_taken(labels, places), dtype=dtype)


def _counted(number: int, word: str) -> str:
    return f"{number} {word if number == 1 else _plural(word)}"


def _named(word: str, labels: Sequence[Any]) -> str:
    """Name things by their labels: "group 3", "groups 3, 4 and 7"."""
    return f"{word if len(labels) == 1 else _plural(word)} {listed(labels)}"


def _plural(word: str) -> str:
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def listed(items: Sequence[Any]) -> str:
    """Join with commas, and "and" before the last."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def _layers_named(numbers: Sequence[int], names: Sequence[str]) -> str:
    """Name layers, three or more that follow one another as a range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [
        word
        for run in runs
        for word in (
            [names[number] for number in run]
            if len(run) < 3
            else [f"{names[run[0]]} to {names[run[-1]]}"]
        )
    ]
    return f"layer{'s' * (len(numbers) > 1)} {listed(words)}"
