"""Displays of what the inspection tells, one a file; skleiden.plotting has them all."""
