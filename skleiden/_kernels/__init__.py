"""Plain functions on validated arrays: every number of the library is made here.

No estimator, and no parameter checking: callers hand over clean input. The modules
do not import one another.
"""
