"""What visitors see."""

from __future__ import annotations

import html
import time
from typing import Final

from base04_maintenance.contract import Closure

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}

_STYLE: Final = """
:root { color-scheme: light dark; font: 18px/1.5 system-ui, sans-serif }
body { margin: 0; min-height: 100vh; display: grid; place-items: center;
  background: light-dark(#f5f3ee, #1b1d21); color: light-dark(#26282c, #e8e6e1) }
main { max-width: 32rem; padding: 2rem }
h1 { font-size: 1.6rem; margin: 0 0 .5rem }
p { margin: .5rem 0; white-space: pre-line; overflow-wrap: anywhere }
.when { color: light-dark(#62656b, #a3a6ac); font-size: .9rem }
"""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="30">
<title>{title}</title>
<style>{style}</style>
</head>
<body><main>
<h1>{title}</h1>
{paragraphs}
</main></body>
</html>
"""


def page(closure: Closure | None) -> str:
    """Return the page; whatever a message holds is shown as text."""
    if closure is None:
        return _filled("We are open", "<p>Everything works as usual.</p>")
    message = closure.message or "We are working on it, and will be back."
    paragraphs = f"<p>{html.escape(message)}</p>\n"
    if closure.ends_at is not None:
        paragraphs += f'<p class="when">Until {_moment(closure.ends_at)}, we think.</p>'
    return _filled("Closed for maintenance", paragraphs)


def _filled(title: str, paragraphs: str) -> str:
    return _PAGE.format(title=title, style=_STYLE, paragraphs=paragraphs)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
