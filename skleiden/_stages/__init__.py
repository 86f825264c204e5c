"""What the estimators do, stage by stage, each written once.

A stage is a function of blocks of rows and of a runner, which says where they are. In
this process there is one block; on a cluster there are many, and a row's neighbours are
merged from those found in each.

The tables below name the functions in which the work is done, as "module:function", in
the order in which they run: tests interrupt, starve and kill each of them.
"""

# What stages hand to a runner, so that it may run elsewhere.
TASKS = {
    "count": "_stages.sketch:_count",
    "sample": "_stages.replicate:_picked",
    "embed": "_stages.sketch:_embed",
    "vectors": "_stages.distinct:_measure",
    "search within": "_stages.search:_within",
    "search between": "_stages.search:_between",
    "merge": "_stages.search:_merged",
    "surroundings": "_stages.hubs:_surroundings",
    "choice": "_stages.hubs:_chosen",
    "lists": "_stages.affinity:_directed",
    "join": "_stages.affinity:_join",
    "graph": "_stages.affinity:_stacked",
    "leiden": "_stages.partition:_run_there",
    "attach": "_stages.affinity:_touching",
}

# The same, of a search of inverted lists alone.
IVF_TASKS = {
    "k-means": "_stages.plan:_k_means",
    "assign": "_stages.plan:_assign",
    "true neighbours": "_stages.distinct:_nearest",
    "to shards of lists": "_stages.search:_gathered",
    "from shards of lists": "_stages.search:_table_divided",
    "search between": "_stages.search:_between",
}

# Where the time goes in this process: of the sketch,
SKETCH_KERNELS = (
    "_kernels.countsketch:column_statistics",
    "_kernels.countsketch:sketch",
    "_kernels.countsketch:scale_rows",
)

# of communities,
KERNELS = (
    "_kernels.knn:row_hashes",
    "_stages.hubs:choose",
    "_kernels.graph:mutual_graph",
    "_kernels.graph:union_graph",
    "_kernels.leiden:network",
    "_kernels.leiden:_run_igraph",
    "_kernels.leiden:modularity",
    "_kernels.labels:attach",
    "_clusterer:connected_components",
)

# and of each search.
SEARCH_KERNELS = {
    "exact": ("_kernels.knn:exact_neighbors", "_kernels.knn:rank"),
    "hnsw": (
        "_kernels.knn:hnsw_neighbors",
        "_kernels.knn:recall_bound",
        "_kernels.knn:rank",
    ),
    "ivf": (
        "_kernels.ivf:make_plan",
        "_kernels.ivf:_make_lists",
        "_kernels.ivf:true_neighbors",
        "_kernels.ivf:_needed_slack",
        "_kernels.ivf:search",
        "_kernels.ivf:_first_bounds",
        "_kernels.ivf:_make_stripes",
        "_kernels.ivf:_Scan.__call__",
        "_kernels.ivf:_Scan._compare",
        "_kernels.ivf:_Stripe.select",
    ),
}
