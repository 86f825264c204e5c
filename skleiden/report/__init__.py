"""Communities as one page to look at, search and pass on."""

from ._page import write_report

__all__ = ["write_report"]
