"""What is measured."""

from dataclasses import dataclass

from net import API, MORE


@dataclass
class Load:
    """One workload: the words for the load, what a proxy must be able to do, and what it is called in the table."""

    words: str
    title: str
    needs: str = "h1"
    host: str = API
    rules: int = 100
    secrets: int = 1
    timed: bool = True
    figure: str = "rate"
    unit: str = "requests/s"
    cost: str = "cpu_s_per_1000"


LOADS = {
    "kept-1": Load("kept", "HTTP/1.1, one request at a time"),
    "kept-32": Load("kept --connections 32", "HTTP/1.1, 32 connections"),
    "kept-256": Load("kept --connections 256", "HTTP/1.1, 256 connections"),
    "json-32": Load("kept --connections 32 --path /json", "10 KiB of JSON, 32 connections"),
    "h2-1": Load("kept --http2", "HTTP/2, one request at a time", "h2"),
    "h2-1x32": Load("kept --http2 --streams 32", "HTTP/2, 1 connection of 32 streams", "h2"),
    "h2-8x32": Load("kept --http2 --connections 8 --streams 32", "HTTP/2, 8 connections of 32 streams", "h2"),
    "fresh": Load("fresh", "new connection, CONNECT and handshake for each request"),
    "names": Load("names", "first request to each of 1,000 names", "mint", timed=False),
    "down": Load("down --path /big", "100 MiB down", timed=False, figure="mb_per_s", unit="MB/s", cost="cpu_s_per_gib"),
    "up": Load("up", "100 MiB up", host=MORE, timed=False, figure="mb_per_s", unit="MB/s", cost="cpu_s_per_gib"),
    "events": Load("events", "event stream: delay of an event", host=MORE, timed=False, figure="p50_us", unit="µs"),
    "idle-1000": Load("idle", "1,000 idle connections", timed=False, figure="kib_each", unit="KiB each"),
    "idle-5000": Load("idle --connections 5000", "5,000 idle connections", timed=False, figure="kib_each", unit="KiB each"),
    "rules-1": Load("kept --connections 32", "32 connections, 1 rule", "rules", rules=1),
    "rules-10000": Load("kept --connections 32", "32 connections, 10,000 rules", "rules", rules=10_000),
    "secrets-1000": Load("kept --connections 32", "32 connections, 1,000 secrets", "secrets", rules=1000, secrets=1000),
    "websocket": Load("messages", "WebSocket messages, 32 connections", "websocket", host=MORE, unit="messages/s"),
    "grpc": Load("kept --http2 --streams 32 --grpc --path /unary", "gRPC unary, 32 streams", "grpc", host=MORE, unit="calls/s"),
    "transparent": Load("kept --connections 32", "32 connections, transparent listener", "transparent"),
}

# For a smoke run: every kind of path once, in less than a minute.
QUICK = ("kept-32", "json-32", "h2-1x32", "fresh", "up", "websocket", "grpc")
QUICK_PEERS = ("nginx", "relay", "keyferry")
