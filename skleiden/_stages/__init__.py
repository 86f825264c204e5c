"""What the estimators do, stage by stage, each written once.

A stage is a function of blocks of rows and of a runner, which says where they are. In
this process there is one block; on a cluster there are many, and a row's neighbours are
merged from those found in each.
"""
