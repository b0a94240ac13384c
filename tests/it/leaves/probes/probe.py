"""probe.py CA PORT HOST...: a handshake for each host, as strict as Python 3.13 is by default."""
import socket
import ssl
import sys

ca, port, *hosts = sys.argv[1:]
for host in hosts:
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as raw:
        with context.wrap_socket(raw, server_hostname=host) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tls.recv(4096).startswith(b"HTTP/1.1 200"), host
    print("accepted", host)
