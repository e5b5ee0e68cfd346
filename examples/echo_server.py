"""An echo server: `python echo_server.py CERTIFICATE.pem`; SIGTERM or Ctrl-C drains it, a second one ends it at once.

The file holds the certificate chain and its private key. Try it with `bowout connect localhost:8443`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys

import bowout


async def echo(stream: bowout.Stream) -> None:
    """Send back all data, until the client ends its direction; then the server ends ours."""
    async for chunk in stream:
        await stream.send(chunk)


async def main(certificate: str, port: int) -> None:
    """Serve until a signal comes, and print how the last connections ended."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with bowout.serve(echo, port=port, context=context, drain_on_signals=True, idle_timeout=300) as server:
        print("listening on", *server.addresses, flush=True)
        report = await server.wait_drained()
    print(report)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8443))
