"""An agent that tries every way out: one packet or connection each, and what came of it, as JSON."""

import json
import os
import socket
import struct
import sys

FAR = {4: sys.argv[1], 6: sys.argv[2]}
# The link address of the gateway, where the agent is on a line of its own.
GATEWAY = sys.argv[3]
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
# A query for example.test, type A.
QUERY = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x01\0\x01"


def stream(version, port):
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as tcp:
        tcp.settimeout(1)
        tcp.connect((FAR[version], port))


def datagram(version, port, payload):
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as udp:
        udp.sendto(payload, (FAR[version], port))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def echo(version):
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    head = struct.pack("!BBHHH", 8 if version == 4 else 128, 0, 0, 7, 7)
    if version == 4:
        head = struct.pack("!BBHHH", 8, 0, checksum(head + b"leak"), 7, 7)
    with socket.socket(FAMILY[version], socket.SOCK_RAW, protocol) as icmp:
        icmp.sendto(head + b"leak", (FAR[version], 0))


def ping(version):
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM, protocol) as icmp:
        icmp.sendto(struct.pack("!BBHHH", 8 if version == 4 else 128, 0, 0, 0, 9) + b"leak", (FAR[version], 0))


def mapped(kind, port):
    """IPv4 by an IPv6 socket."""
    with socket.socket(socket.AF_INET6, kind) as either:
        either.settimeout(1)
        either.connect((f"::ffff:{FAR[4]}", port))
        either.send(b"leak")


def raw(version, protocol):
    with socket.socket(FAMILY[version], socket.SOCK_RAW, protocol) as ip:
        ip.sendto(b"leak", (FAR[version], 0))


def frame():
    """A whole Ethernet frame, past the agent's own firewall: only one beyond its reach can hold it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind(("va", 0))
        own = line.getsockname()[4]
        payload = struct.pack("!HHHH", 27, 27, 12, 0) + b"leak"
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0, socket.inet_aton("10.77.0.2"),
                           socket.inet_aton(FAR[4]))
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        line.send(bytes.fromhex(GATEWAY.replace(":", "")) + own + b"\x08\x00" + head + payload)


def crafted():
    """A whole IPv4 packet of the agent's own making, from an address that is not its own."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0, socket.inet_aton("192.0.2.77"),
                       socket.inet_aton(FAR[4]))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as ip:
        ip.sendto(head + struct.pack("!HHHH", 9, 9, 12, 0) + b"leak", (FAR[4], 0))


WAYS = {}
for version in (4, 6):
    for port in (22, 25, 80, 443, 853, 8443):
        WAYS[f"tcp{version}/{port}"] = lambda v=version, p=port: stream(v, p)
    WAYS[f"dns{version}/tcp"] = lambda v=version: stream(v, 53)
    WAYS[f"dns{version}/udp"] = lambda v=version: datagram(v, 53, QUERY)
    for port in (123, 443, 4789):
        WAYS[f"udp{version}/{port}"] = lambda v=version, p=port: datagram(v, p, b"leak")
    WAYS[f"fragments{version}"] = lambda v=version: datagram(v, 9, b"leak" * 1000)
    WAYS[f"icmp{version}/raw"] = lambda v=version: echo(v)
    WAYS[f"icmp{version}/ping"] = lambda v=version: ping(v)
    for protocol in (41, 47, 132, 136):
        WAYS[f"raw{version}/{protocol}"] = lambda v=version, p=protocol: raw(v, p)
WAYS["raw4/crafted"] = crafted
WAYS["mapped/tcp"] = lambda: mapped(socket.SOCK_STREAM, 26)
WAYS["mapped/udp"] = lambda: mapped(socket.SOCK_DGRAM, 26)
if GATEWAY:
    WAYS["frame"] = frame

told = {}
for name, way in WAYS.items():
    try:
        way()
        told[name] = "sent"
    except OSError as error:
        told[name] = error.strerror or str(error)
print(json.dumps(told))
