"""The interactive API page: Swagger UI from its wheel, every byte served from here, no CDN.

The page at `/docs` loads the four files below from `/docs/<name>` and the document from `/openapi.json`.
Swagger UI 4.15.5 (wheel swagger-ui-bundle 1.1.0) renders OpenAPI 3.0 only; see `service.openapi`.
"""

import functools
from typing import NamedTuple

from swagger_ui_bundle import swagger_ui_path

PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Riffle API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = b"""window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""

# Swagger UI writes inline styles and data: images; scripts and requests stay on this origin.
PAGE_POLICY = b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


class Asset(NamedTuple):
    """One file of the page."""

    content_type: bytes
    body: bytes


@functools.cache
def load_assets() -> dict[str, Asset]:
    """The files of the page by name, read once (1.2 MB). The names are the whole allow-list."""
    return {
        "start.js": Asset(b"text/javascript; charset=utf-8", _START),
        "swagger-ui-bundle.js": _vendored("swagger-ui-bundle.js", b"text/javascript; charset=utf-8"),
        "swagger-ui.css": _vendored("swagger-ui.css", b"text/css; charset=utf-8"),
        "favicon-32x32.png": _vendored("favicon-32x32.png", b"image/png"),
    }


def _vendored(name: str, content_type: bytes) -> Asset:
    return Asset(content_type, (swagger_ui_path / name).read_bytes())
