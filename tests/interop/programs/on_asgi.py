"""Serve two answers over HTTPS by an ASGI server: on_asgi.py SERVER LOOP PORT CERT KEY."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

SMALL = b"<p>hello</p>" * 10
BIG = bytes(8 << 20)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"].endswith("shutdown"):
                return
    body = BIG if scope["path"] == "/big" else SMALL
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(server: str, loop: str, port: str, cert: str, key: str) -> None:
    if server == "uvicorn":
        import uvicorn  # noqa: PLC0415

        uvicorn.run(
            app, host="127.0.0.1", port=int(port), ssl_certfile=cert, ssl_keyfile=key, loop=loop, http="h11",
            log_level="error",
        )  # fmt: skip
    else:
        import hypercorn.asyncio  # noqa: PLC0415
        import hypercorn.config  # noqa: PLC0415

        config = hypercorn.config.Config()
        config.bind, config.certfile, config.keyfile = [f"127.0.0.1:{port}"], cert, key
        asyncio.run(hypercorn.asyncio.serve(app, config))  # type: ignore[arg-type]  # its own types of ASGI


if __name__ == "__main__":
    main(*sys.argv[1:])
