"""An echo server on Python `websockets`. Prints its port; settings as JSON in the first argument:
{maxPayload, protocol, handshakeTimeout (ms)}."""

import asyncio
import json
import logging
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

logging.basicConfig(level=logging.CRITICAL)


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main():
    settings = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    server = await serve(
        echo,
        "127.0.0.1",
        0,
        max_size=settings.get("maxPayload", 1 << 20),
        subprotocols=[settings["protocol"]] if "protocol" in settings else None,
        select_subprotocol=lambda _, offered: next((p for p in offered if p == settings.get("protocol")), None),
        open_timeout=settings.get("handshakeTimeout", 10_000) / 1000,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # goes when its starter goes


asyncio.run(main())
