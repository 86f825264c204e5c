"""Fill in templates of pages: each page is one file, and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

_TEMPLATES = "templates"


def fill(
    name: str,
    writer: str,
    *,
    styles: tuple[str, ...],
    scripts: tuple[str, ...],
    **values: Any,
) -> str:
    """Fill in a template with styles and scripts from files beside it, in order.

    `writer` is the function that the error names if Jinja2 is missing.
    """
    try:
        import jinja2  # noqa: F401 - which makes the environment
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError(
            f'{writer} needs Jinja2: pip install "skleiden[report]".'
        ) from error
    style, script = ("\n".join(map(_source, of)) for of in (styles, scripts))
    template = _environment().get_template(name)
    page: str = template.render(
        style=Markup(style),  # noqa: S704 - the package's own, as is the script
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        **values,
    )
    return page


@cache
def _environment() -> Any:
    """Make what compiles templates, each once: it takes longer than to fill them in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, _TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # Keys in the order given: layers are in theirs.
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment


def _source(name: str) -> str:
    return files(__package__).joinpath(_TEMPLATES, name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    """Compute the hash by which a Content-Security-Policy allows a style or script."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
