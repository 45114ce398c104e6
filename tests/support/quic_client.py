"""Holds half an HTTP/3 request open until its standard input ends. Prints "open" once the server has it."""

import asyncio
import ssl
import sys

from aioquic.asyncio import connect
from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration


async def main(host: str, port: int) -> None:
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, idle_timeout=600
    )
    async with connect(host, port, configuration=configuration) as client:
        http = H3Connection(client._quic)
        stream = client._quic.get_next_available_stream_id()
        headers = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]
        http.send_headers(stream, headers, end_stream=False)  # the body never comes
        client.transmit()
        await client.ping()  # answered after the request was received
        print("open", flush=True)
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ended.done():
            await asyncio.wait({ended}, timeout=2)
            if not ended.done():
                await client.ping()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
