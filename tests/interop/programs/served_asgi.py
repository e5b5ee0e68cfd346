"""An ASGI application with a page and a large answer."""

from __future__ import annotations

from typing import Any, Final

_PAGES: Final = {"/": b"It is complete. " * 20, "/large.bin": bytes(8 << 20)}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a request with a page."""
    assert scope["type"] == "http", scope["type"]
    body = _PAGES.get(scope["path"], b"")
    length = str(len(body)).encode()
    status = 200 if body else 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})
