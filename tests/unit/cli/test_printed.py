"""What commands print of communities and profiles."""

import numpy as np

from skleiden.cli._output import in_short
from skleiden.cli._profiles import in_columns
from skleiden.inspection import Communities, CommunityTree, TreeNode

FACTS = {"n_samples": 9, "n_communities": 2, "n_noise": 0, "modularity": 0.5}


def test_levels_of_a_tree_are_those_of_the_tree():
    """What is not divided is a community of each deeper level, too."""
    rows = np.arange(9)
    nodes = [
        TreeNode(0, None, 0, rows, (1, 2, 3)),
        TreeNode(1, 0, 1, rows[:5], (4, 5)),
        TreeNode(2, 0, 1, rows[5:7]),
        TreeNode(3, 0, 1, rows[7:]),
        TreeNode(4, 1, 2, rows[:3]),
        TreeNode(5, 1, 2, rows[3:5]),
    ]
    tree = CommunityTree(nodes, 9)
    labels = np.repeat([0, 1], [5, 4])
    found = Communities(labels, tree=tree, summary={**FACTS, "n_edges": 8})
    assert in_short(found) == (
        "9 prompts, 2 communities, 0 prompts in none; modularity 0.500; "
        "tree of 1 > 3 > 4"
    )
    assert repr(tree) == "<CommunityTree: 1 > 3 > 4 communities>"


def test_numbers_stand_below_their_names():
    rows = [[0.02212, float("nan")], [1.7, 12.0]]
    assert in_columns(("resolution", "null"), rows) == [
        "resolution        null",
        "    0.0221           -",
        "       1.7          12",
    ]
