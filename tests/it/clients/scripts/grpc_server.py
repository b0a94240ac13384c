"""A gRPC server of bytes, without generated code. Usage: grpc_server.py CHAIN.pem KEY.pem TOKEN

Prints its port, then one line per call that the client cancelled.
"""

import sys
import time
from concurrent import futures

import grpc

chain, key, token = sys.argv[1:]


def authorized(context):
    given = [v for k, v in context.invocation_metadata() if k == "authorization"]
    if given != ["Bearer " + token]:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{len(given)} credentials, not the right one")


def unary(request, context):
    authorized(context)
    context.set_trailing_metadata((("x-trail", "unary"),))
    return b"unary:" + request


def server_stream(request, context):
    authorized(context)
    for i in range(3):
        yield b"%d:%s" % (i, request)
    context.set_trailing_metadata((("x-trail", "stream"),))


def client_stream(requests, context):
    authorized(context)
    return b",".join(requests)


def both(requests, context):
    authorized(context)
    for request in requests:
        yield b"echo:" + request


def fails(request, context):
    authorized(context)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 100% \u00e9")


def forever(request, context):
    authorized(context)
    context.add_callback(lambda: print("ended", request.decode(), flush=True))
    yield b"first"
    while context.is_active():
        time.sleep(0.01)


def gives_up(request, context):
    authorized(context)
    yield b"first"
    context.cancel()


def deadline(request, context):
    authorized(context)
    left = context.time_remaining()
    return b"none" if left is None or left > 10_000 else b"%d" % left


methods = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Forever": grpc.unary_stream_rpc_method_handler(forever),
    "GivesUp": grpc.unary_stream_rpc_method_handler(gives_up),
    "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
}
server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("probe.Probe", methods),))
credentials = grpc.ssl_server_credentials([(open(key, "rb").read(), open(chain, "rb").read())])
print("port", server.add_secure_port("127.0.0.1:0", credentials), flush=True)
server.start()
# Ends with whoever started it.
sys.stdin.read()
