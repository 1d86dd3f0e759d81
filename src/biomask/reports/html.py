"""`render`: blocks in, one HTML page out that needs nothing but itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import biomask
from biomask.reports.blocks import Section, show

if TYPE_CHECKING:
    from jinja2 import Template

#: Turns the reading direction of what follows, or is nothing that a page may hold; a file name can.
_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")

#: What can be typed: commands in quotes, and flags with their value, as far as the next word is one.
_TYPED = re.compile(r"""(`[^`]+`|'biomask\s[^']+'|(?<![\w-])--[a-z][a-z-]+(?:[ ](?!(?:with|or|and|to|for|is|lists|elsewhere)\b)"""
                    r"""(?:"[^"]*"|'[^']*'|[\w#][^\s;:,()]*(?:,[^\s;:,()]+)*))?)""")


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """One HTML page as text: no script, nothing loaded from elsewhere, the same for the same arguments."""
    page = _template().render(title=title, subtitle=subtitle, sections=sections, version=biomask.__version__)
    page = _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", page.lstrip())
    return page.encode("utf-8", "replace").decode("utf-8")  # a file name may hold what UTF-8 cannot


def typed(text: str) -> list[tuple[str, bool]]:
    """A text in pieces: (piece, whether it is to be typed as it is) each.

    >>> typed("say --labels classes, or leave a value out with --ignore VALUE")
    [('say ', False), ('--labels classes', True), (', or leave a value out with ', False), ('--ignore VALUE', True)]
    """
    pieces = [(piece, n % 2 == 1) for n, piece in enumerate(_TYPED.split(text))]
    return [(piece.strip("`'") if code and piece[0] in "`'" else piece, code) for piece, code in pieces if piece]


def _data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("biomask", "reports/templates"), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "data_uri": _data_uri, "typed": typed}
    return environment.get_template("report.html.j2")
