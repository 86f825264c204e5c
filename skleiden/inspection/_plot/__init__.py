"""Displays of what inspection finds, one a file; skleiden.plotting has them all."""
