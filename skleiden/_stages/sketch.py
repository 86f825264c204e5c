"""The sketch: count columns, then weight, hash and scale each layer of each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import product
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from skleiden._blocks.checks import check_finite
from skleiden._blocks.layout import Layers, Layout, Part
from skleiden._blocks.mapped import Output, check_size
from skleiden._blocks.rows import (
    at_columns,
    densified,
    positive_part,
    stored_values,
    with_values,
)
from skleiden._blocks.runner import Runner
from skleiden._blocks.sources import Source, row_batches
from skleiden._fitting import at_most_useful
from skleiden._kernels import countsketch, sample

# Where "auto" takes negative values for the tail of an activation function, which its
# zeros stand for: it has a lowest value (GELU -0.170, SiLU -0.278, Mish -0.309), and
# positive values reach several times as far from zero.
_LOWEST, _MOST_NEGATIVE = -0.31, 0.25

# Rows of the embedding that are copied to memory at once hold about so many numbers.
_COPIED = 2**20


class Settings(NamedTuple):
    """The parameters that a fitted sketcher keeps to, whatever is set afterwards."""

    weighting: str
    smooth_idf: bool
    power: float | None
    center: bool
    zero_tol: float
    dtype: np.dtype


class Activity(NamedTuple):
    """How the values of each layer are taken; arrays have an entry for each layer.

    `weighting` is "idf", "zscore", "correlation" or "none", `positive` says that
    negative values count as zero, and `centred` that the columns' mean is subtracted.
    """

    settings: Settings
    weighting: tuple[str, ...]
    positive: np.ndarray
    centred: np.ndarray

    @property
    def power(self) -> float:
        """What absolute values are raised to."""
        if self.settings.power is None:
            return 0.5 if self.correlated else 1.0
        return self.settings.power

    @property
    def correlated(self) -> bool:
        """Whether rows are compared by their correlation; all layers, or none."""
        return "correlation" in self.weighting


class Counts(NamedTuple):
    """What is counted of rows.

    `n_zero_rows` are those without any activity; `lowest` and `highest` the extremes of
    each layer, zero included; `sample` the rows that were drawn, if any were to be.
    """

    columns: countsketch.ColumnStatistics
    n_zero_rows: int
    lowest: np.ndarray
    highest: np.ndarray
    sample: sample.Drawn


class Reading(NamedTuple):
    """How much is read at once, by how many threads, and who hears of it."""

    batch_size: int | None
    n_jobs: int | None
    progress: Callable[[int], object] | None = None


class Sampling(NamedTuple):
    """How many different rows are drawn while all are counted."""

    n_rows: int = 0
    seed: int = 0


_NO_SAMPLE = Sampling()


class Sketch(NamedTuple):
    """All that embeds rows, as it was learnt.

    Arrays have an entry for each column of X, but for `shares`, the weights of the
    layers that add up to 1. `centres` is subtracted from the weighted values of layers
    that are centred.
    """

    activity: Activity
    n_components: tuple[int, ...]
    shares: np.ndarray
    weights: np.ndarray
    centres: np.ndarray
    buckets: np.ndarray
    signs: np.ndarray


class WeightedLayer(NamedTuple):
    """A layer as the sketch weighs it, before it is hashed.

    Rows, as `read` gives them, times `weight`, less `centre` where they have any
    activity, scaled to unit length and by the root of `share`, are what the sketch
    stands for.
    """

    name: str
    source: Source
    read: Callable[[slice], Any]
    weight: np.ndarray
    centre: np.ndarray
    share: float


def stated_activity(settings: Settings, n_layers: int, of_neurons: int = 0) -> Activity:
    """Give how layers are taken, as far as parameters say; "auto" begins with idf.

    Rows that are neurons differ in their means, which would make groups of their own:
    "auto" compares them by their correlation.
    """
    auto = settings.weighting == "auto"
    weighting = settings.weighting
    if auto:
        weighting = "correlation" if of_neurons else "idf"
    centred = settings.center or weighting == "zscore"
    each = np.ones(n_layers, dtype=bool)
    return Activity(settings, (weighting,) * n_layers, auto & each, centred & each)


def found_activity(stated: Activity, counts: Counts) -> Activity:
    """Give how layers are taken by "auto", which the signs of their values tell.

    Layers after ReLU, GELU and their like by their positive part and idf; others, which
    have large values of both signs, by z-scores. Neurons by their correlation.
    """
    settings, lowest, highest = stated.settings, counts.lowest, counts.highest
    positive = (lowest >= _LOWEST) & (-lowest <= _MOST_NEGATIVE * highest)
    if stated.correlated:
        return stated._replace(positive=positive)
    weighting = tuple(np.where(positive, "idf", "zscore").tolist())
    return Activity(settings, weighting, positive, ~positive | settings.center)


def learn(
    layers: Layers,
    settings: Settings,
    activity: Activity | None,
    reading: Reading,
    runner: Runner,
    sampling: Sampling = _NO_SAMPLE,
) -> tuple[Activity, Counts]:
    """Count the activity of each column, taken as it was before, or as is found."""
    if activity is not None:
        return activity, count(layers, activity, reading, runner)
    n_layers = len(layers.layout.names)
    activity = stated_activity(settings, n_layers, layers.of_neurons)
    counts = count(layers, activity, reading, runner, sampling)
    if settings.weighting != "auto":
        return activity, counts
    found = found_activity(activity, counts)
    if (found.positive != activity.positive).any():
        again = count(layers, found, reading, runner)
        counts = again._replace(sample=counts.sample)
    return found, counts


def count(
    layers: Layers,
    activity: Activity,
    reading: Reading,
    runner: Runner,
    sampling: Sampling = _NO_SAMPLE,
) -> Counts:
    """Count the activity of each column, the rows without any, and signs."""
    with runner.progress("Count", layers.n_reads) as progress:
        reading = reading._replace(progress=progress)
        task = partial(_count, layers.layout, activity, reading, sampling)
        handles, _ = _on_blocks(layers, task, runner)
    merge = partial(merged, n_sampled=sampling.n_rows)
    counts: Counts = runner.fold(merge, handles, "Count")
    return counts


def merged(a: Counts, b: Counts, n_sampled: int = 0) -> Counts:
    """Give what is counted of the rows of both."""
    return Counts(
        countsketch.merge(a.columns, b.columns),
        a.n_zero_rows + b.n_zero_rows,
        np.minimum(a.lowest, b.lowest),
        np.maximum(a.highest, b.highest),
        sample.merge(a.sample, b.sample, n_sampled),
    )


def embed(
    layers: Layers,
    sketch: Sketch,
    reading: Reading,
    runner: Runner,
    out: np.ndarray | None = None,
) -> Any:
    """Embed rows, into `out` if it is given; of layers on workers, lazily."""
    with runner.progress("Sketch", layers.n_reads) as progress:
        reading = reading._replace(progress=progress)
        task = partial(_embed, layers.layout, sketch, reading, out)
        handles, sizes = _on_blocks(layers, task, runner)
    width = sum(sketch.n_components)
    return runner.rows(handles, sizes, width, sketch.activity.settings.dtype)


def largest_value(layers: Layers, column: int, runner: Runner) -> float:
    """Find the largest absolute value in a column."""
    handles, _ = _on_blocks(layers, partial(_largest, layers.layout, column), runner)
    return float(runner.fold(max, handles, "Largest value"))


def weighted_layers(layers: Layers, sketch: Sketch) -> list[WeightedLayer]:
    """Give the layers as the sketch weighs them."""
    layout, activity = layers.layout, sketch.activity
    read = partial(_read, layout, activity)
    if activity.correlated:
        read = partial(_read_centred, layout, sketch)
    return [
        WeightedLayer(
            layout.names[layer],
            part.source,
            partial(read, part),
            sketch.weights[part.columns],
            sketch.centres[part.columns],
            sketch.shares[layer],
        )
        for layer, part in enumerate(layout.parts(layers.sources))
    ]


def _on_blocks(
    layers: Layers, task: Callable[..., Any], runner: Runner
) -> tuple[list[Any], list[int]]:
    """Run a task on each block of rows; gives handles, and the blocks' sizes."""
    there, blocks = runner.put(task), layers.row_blocks()
    handles = [runner.call(run_task, there, start, of) for start, _, of in blocks]
    return handles, [n_rows for _, n_rows, _ in blocks]


def run_task(task: Callable[..., Any], start: int, matrices: Sequence[Any]) -> Any:
    """Run a task, which may be a handle, on a block of rows."""
    return task(start, matrices)


def _on_batches(
    task: Callable[[Part, slice], Any],
    layout: Layout,
    parts: Sequence[Part],
    reading: Reading,
) -> list[Any]:
    """Run a task on batches of rows of every part, in threads."""
    for part in parts:
        for matrix in part.source.underlying():
            check_size(matrix, layout.describe(part.layers))
    batches = row_batches([part.source for part in parts], reading.batch_size)
    pairs = list(product(parts, batches))
    # Tasks write into one array, so a backend of processes will not do.
    n_jobs = at_most_useful(reading.n_jobs)
    run = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")
    results = []
    found = run(delayed(task)(*pair) for pair in pairs)
    for (_, rows), result in zip(pairs, found, strict=True):
        results.append(result)
        if reading.progress is not None:
            reading.progress(rows.stop - rows.start)
    return results


def _read(layout: Layout, activity: Activity, part: Part, rows: slice) -> Any:
    """Rows of a part as they are weighted."""
    return _active(activity, part, layout, _read_values(layout, activity, part, rows))


def _read_centred(
    layout: Layout, sketch: Sketch, part: Part, rows: slice
) -> np.ndarray:
    """Rows of a part, which is one layer, less their means."""
    block = _read(layout, sketch.activity, part, rows)
    counted = sketch.weights[part.columns] > 0
    centred = _centred(layout, part, block, counted)
    varies = centred.deviation > 0
    return (densified(centred.block) - centred.means * counted) * varies


def _read_values(layout: Layout, activity: Activity, part: Part, rows: slice) -> Any:
    """Rows of a part in float32 or float64, checked, without what counts as zero."""
    block = part.source.read(rows)
    values = stored_values(block)
    exact = np.can_cast(values.dtype, np.float32)
    values = np.asarray(values, dtype=np.float32 if exact else np.float64)
    where = f" in {layout.describe(part.layers)}"
    check_finite(block, where, part.start + rows.start, values)
    if activity.settings.zero_tol > 0:
        least = min(activity.settings.zero_tol, float(np.finfo(values.dtype).max))
        values = np.where(np.abs(values) > least, values, 0)
    return with_values(block, values)


def _active(activity: Activity, part: Part, layout: Layout, block: Any) -> Any:
    """Tell what is weighted of a block: perhaps its positive part, to a power."""
    layers, power = slice(part.layers.start, part.layers.stop), activity.power
    if activity.positive[layers].any():
        columns = np.repeat(activity.positive[layers], layout.widths[layers])
        block = positive_part(block, columns)
    if power == 1:
        return block
    values = stored_values(block)
    powered = np.sign(values) * np.abs(values) ** values.dtype.type(power)
    return with_values(block, powered)


def _extremes(layout: Layout, part: Part, block: Any) -> np.ndarray:
    """Lowest and highest value of each layer of a block, zero included."""
    values, ways = stored_values(block), (np.minimum, np.maximum)
    if len(part.layers) == 1:
        return np.array([[way.reduce(values, axis=None, initial=0)] for way in ways])
    widths = layout.widths[part.layers.start : part.layers.stop]
    layer_of = at_columns(block, np.repeat(np.arange(len(widths)), widths))
    found = np.zeros((2, len(widths)))
    for way, of_layers in zip(ways, found, strict=True):
        each = values if values.ndim == 1 else way.reduce(values, axis=0)
        way.at(of_layers, layer_of, each)
    return found


def _count(
    layout: Layout,
    activity: Activity,
    reading: Reading,
    sampling: Sampling,
    start: int,
    matrices: Sequence[Any],
) -> Counts:
    parts = layout.parts(matrices, start)
    n_layers, n_samples = len(layout.names), parts[0].source.shape[0]
    moments = bool(activity.centred.any())
    auto = activity.settings.weighting == "auto"
    active = np.zeros((n_layers, n_samples), dtype=bool)
    keys, adding = np.zeros(n_samples, dtype=np.uint64), Lock()
    factors = sample.draw_factors(int(layout.starts[-1]), sampling.seed)

    def count(
        part: Part, rows: slice
    ) -> tuple[countsketch.ColumnStatistics, np.ndarray]:
        block = _read_values(layout, activity, part, rows)
        extremes = np.zeros((2, len(part.layers)))
        if auto:
            extremes = _extremes(layout, part, block)
        if sampling.n_rows:
            of_part = sample.row_keys(block, factors[part.columns])
            with adding:  # threads read other layers of the same rows
                keys[rows] += of_part
        block = _active(activity, part, layout, block)
        active[part.layers.start, rows] = countsketch.active_rows(block)
        if activity.correlated:  # a row that is constant says nothing
            every = np.ones(block.shape[1], dtype=bool)
            varies = _centred(layout, part, block, every).deviation.any(axis=1)
            active[part.layers.start, rows] = varies
        return countsketch.column_statistics(block, moments=moments), extremes

    # Blocks are merged in order: sums must not depend on n_jobs.
    blocks = _on_batches(count, layout, parts, reading)
    per_part = len(blocks) // len(parts)
    of_parts = [
        tuple(zip(*blocks[i : i + per_part], strict=True))
        for i in range(0, len(blocks), per_part)
    ]
    statistics = countsketch.side_by_side(
        reduce(countsketch.merge, columns) for columns, _ in of_parts
    )
    of_layers = np.concatenate([np.stack(found) for _, found in of_parts], axis=2)
    lowest, highest = of_layers[:, 0].min(axis=0), of_layers[:, 1].max(axis=0)
    n_zero_rows = int(np.count_nonzero(~active.any(axis=0)))
    some = (
        sample.drawn(keys, start, sampling.n_rows) if sampling.n_rows else sample.NONE
    )
    return Counts(statistics, n_zero_rows, lowest, highest, some)


def _centred(
    layout: Layout, part: Part, block: Any, counted: np.ndarray
) -> countsketch.Centred:
    """Rows of a part less their means in each layer, over the columns that count."""
    layers = part.layers
    widths = layout.widths[layers.start : layers.stop]
    layer_of = np.repeat(np.arange(len(layers), dtype=np.int32), widths)
    return countsketch.centre_rows(block, counted, layer_of, len(layers))


def _largest(layout: Layout, column: int, start: int, matrices: Sequence[Any]) -> float:
    parts = layout.parts(matrices, start)
    part = next(part for part in parts if part.columns.stop > column)
    at = column - part.columns.start
    return max(
        float(np.abs(densified(part.source.read(rows)[:, at : at + 1])).max())
        for rows in row_batches([part.source])
    )


class _Hashing(NamedTuple):
    """What each column is multiplied by, and what centring subtracts of each bucket.

    `rounding` is what errors of rounding alone may leave there. `ones` is the sketch of
    a row of ones.
    """

    weights: np.ndarray
    offset: np.ndarray
    rounding: np.ndarray
    ones: np.ndarray


def _hashing(sketch: Sketch) -> _Hashing:
    shift, n_buckets = sketch.signs * sketch.centres, sum(sketch.n_components)
    offset = np.bincount(sketch.buckets, shift, minlength=n_buckets)
    added = np.bincount(sketch.buckets, 1 + np.abs(shift), minlength=n_buckets)
    rounding = 4 * np.finfo(np.float64).eps * added
    weights = sketch.signs * sketch.weights
    ones = np.bincount(sketch.buckets, weights, minlength=n_buckets)
    return _Hashing(weights, offset, rounding, ones)


def _embed(
    layout: Layout,
    sketch: Sketch,
    reading: Reading,
    out: np.ndarray | None,
    start: int,
    matrices: Sequence[Any],
) -> np.ndarray:
    parts, activity = layout.parts(matrices, start), sketch.activity
    n_samples, first_columns = parts[0].source.shape[0], layout.starts
    starts = np.cumsum([0, *sketch.n_components])
    if out is None:
        out = np.empty((n_samples, starts[-1]), dtype=activity.settings.dtype)
    embedding = Output(out)
    present = np.empty((len(layout.names), n_samples), dtype=bool)
    weights, offset, rounding, ones = _hashing(sketch)

    def embed(part: Part, rows: slice) -> None:
        block = _read(layout, activity, part, rows)
        first = starts[part.layers.start]
        weight = weights[part.columns]
        if activity.correlated:
            counted = sketch.weights[part.columns] > 0
            block, means, deviation = _centred(layout, part, block, counted)
        # Centring cancels digits, for which float64 has room.
        if not activity.centred[part.layers.start : part.layers.stop].any():
            weight = weight.astype(block.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            sketched = countsketch.sketch(
                block,
                weight,
                sketch.buckets[part.columns] - first,
                starts[part.layers.stop] - first,
            )
        for layer in part.layers:
            columns = slice(starts[layer], starts[layer + 1])
            of_layer = sketched[:, columns.start - first : columns.stop - first]
            if activity.correlated:
                number = layer - part.layers.start
                of_layer -= means[:, number, None] * ones[columns]
                of_layer[deviation[:, number] == 0] = 0
            elif activity.centred[layer]:
                own = first_columns[layer : layer + 2] - part.columns.start
                active = countsketch.active_rows(block, slice(*own))
                of_layer[active] -= offset[columns]
                # What rounding alone may have left is nothing.
                of_layer[np.abs(of_layer) <= rounding[columns]] = 0
            try:
                present[layer, rows] = countsketch.scale_rows(
                    of_layer, np.sqrt(sketch.shares[layer])
                )
            except OverflowError:
                largest = np.abs(stored_values(block)).max()
                raise ValueError(
                    f"Values of X up to {largest:.3g} overflow {of_layer.dtype} in "
                    f"layer {layout.names[layer]!r}. "
                    f"{_overflow_remedy(sketch, of_layer.dtype)}"
                ) from None
            embedding.write(rows, columns, of_layer)

    _on_batches(embed, layout, parts, reading)
    # Rows have unit length by now, but for those without activity in some layer.
    incomplete = np.flatnonzero(~present[sketch.shares > 0].all(axis=0))
    filled = sketch.shares @ present[:, incomplete]
    lengths = np.sqrt(np.where(filled > 0, filled, 1))
    step = max(1, _COPIED // int(starts[-1]))
    for begin in range(0, incomplete.size, step):
        some = slice(begin, begin + step)
        embedding.divide(incomplete[some], lengths[some])
    return embedding.finish()


def _overflow_remedy(sketch: Sketch, dtype: np.dtype) -> str:
    if "zscore" in sketch.activity.weighting:
        return (
            "They are divided by standard deviations down to "
            f"{1 / sketch.weights.max():.3g}: fit on rows of the same scale as these, "
            "or scale X down before fit."
        )
    if dtype == np.float64:
        return "Scale X down."
    return "Scale X down, or pass it as float64."
