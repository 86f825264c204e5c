"""From labels to meaning: who is in a community, and which neurons make it."""

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

__all__ = [
    "Communities",
    "CommunityMap",
    "Comparison",
    "Contribution",
    "CrossTable",
    "DrivingPair",
    "Explanation",
    "Representative",
    "Representatives",
    "TopFeature",
    "community_map",
    "compare",
    "cross_table",
    "describe_communities",
    "explain",
    "graph_summary",
    "keywords",
    "layer_agreement",
    "members",
    "prototypes",
    "representatives",
    "summarize",
    "top_features",
]
