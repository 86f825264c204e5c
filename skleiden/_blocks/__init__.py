"""Blocks of rows: what they are stored as, and where functions of them run."""
