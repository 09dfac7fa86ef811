"""The dashboard: static pages that ask this gateway's own API with a key that is typed into them.

They are served to everybody and hold no key. Their policy admits scripts, styles, pictures and requests of
this origin only, nothing inline, and no frame around them (SECURITY 18).
"""

from __future__ import annotations

from importlib import resources

from embedonce.access.authenticate import Caller
from embedonce.http.message import Request, Response
from embedonce.http.routes import Dialect, Handler, Route

SCRIPT, STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
INDEX, INDEX_TYPE = "index.html", "text/html; charset=utf-8"
FILES = {
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "charts.js": SCRIPT,
    "dashboard.css": STYLE,
    "dom.js": SCRIPT,
    "format.js": SCRIPT,
    "heatmap.js": SCRIPT,
    "icon.svg": "image/svg+xml",
    "panels.js": SCRIPT,
    "playground.js": SCRIPT,
    "usage.js": SCRIPT,
    "vectors.js": SCRIPT,
}
"""What the page loads, with its content type. Nothing else in the folder is served."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob:",  # blob: shows what was chosen for the playground
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def routes(errors_as: Dialect) -> list[Route]:
    """One route for each file: a name that is not listed is no route at all."""
    page = Route("GET", "/dashboard", None, errors_as, _serve(INDEX, INDEX_TYPE))
    files = [
        Route("GET", f"/dashboard/{name}", None, errors_as, _serve(name, t)) for name, t in FILES.items()
    ]
    return [page, *files]


def _serve(name: str, content_type: str) -> Handler:
    def handler(_request: Request, _caller: Caller | None, _path: dict[str, str]) -> Response:
        body = (resources.files("embedonce") / "dashboard" / name).read_bytes()
        return Response(200, body, content_type, HEADERS)

    return handler
