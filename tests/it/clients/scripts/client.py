"""The ways a Python program goes out. Usage: client.py WAY"""

import asyncio
import sys
import urllib.request

URL = "https://api.test/python"
BODY = b"from python"


def with_urllib():
    with urllib.request.urlopen(urllib.request.Request(URL, data=BODY)) as reply:
        return reply.status


def with_requests():
    import requests

    with requests.Session() as session:
        # Twice on one connection.
        session.post(URL, data=BODY)
        return session.post(URL, data=BODY).status_code


def with_httpx():
    import httpx

    with httpx.Client(http2=True) as client:
        reply = client.post(URL, content=BODY)
        return f"{reply.status_code} {reply.http_version}"


def with_aiohttp():
    import aiohttp

    async def main():
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.post(URL, data=BODY) as reply:
                await reply.read()
                return reply.status

    return asyncio.run(main())


def with_websockets():
    import websockets

    async def main():
        async with websockets.connect("wss://api.test/ws") as socket:
            await socket.send("from python")
            text = await socket.recv()
            await socket.send(b"\x00" * 100_000)
            return f"{text} {len(await socket.recv())}"

    return asyncio.run(main())


def with_strict_verification():
    # What Python 3.13 asks of every certificate by default.
    import ssl

    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    with urllib.request.urlopen(urllib.request.Request(URL, data=BODY), context=context) as reply:
        return reply.status


print(globals()["with_" + sys.argv[1]]())
