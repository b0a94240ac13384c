"""Every kind of gRPC call, through whatever proxy the environment names."""

import threading

import grpc

channel = grpc.secure_channel("grpc.test:443", grpc.ssl_channel_credentials())


def method(kind, name):
    return getattr(channel, kind)("/probe.Probe/" + name)


reply, call = method("unary_unary", "Unary").with_call(b"a")
print("unary", reply.decode(), dict(call.trailing_metadata()).get("x-trail"))

stream = method("unary_stream", "ServerStream")(b"b")
print("server-stream", b" ".join(stream).decode(), dict(stream.trailing_metadata()).get("x-trail"))

print("client-stream", method("stream_unary", "ClientStream")(iter([b"c", b"d", b"e"])).decode())

# Each message is sent only after the answer to the one before: nothing may be held back.
turn = threading.Semaphore(1)


def messages():
    for text in (b"f", b"g", b"h"):
        turn.acquire()
        yield text


answers = []
for answer in method("stream_stream", "Both")(messages()):
    answers.append(answer.decode())
    turn.release()
print("both", *answers)

try:
    method("unary_unary", "Fails")(b"")
except grpc.RpcError as error:
    print("fails", error.code().name, error.details())

print("deadline-seen", method("unary_unary", "Deadline")(b"", timeout=100).decode() in ("99", "100"))

try:
    for _ in method("unary_stream", "Forever")(b"deadline", timeout=1):
        pass
except grpc.RpcError as error:
    print("deadline", error.code().name)

call = method("unary_stream", "Forever")(b"cancel")
print("first", next(call).decode())
call.cancel()
try:
    next(call)
except grpc.RpcError as error:
    print("cancel", error.code().name)
stream = method("unary_stream", "GivesUp")(b"")
try:
    print("given", next(stream).decode())
    next(stream)
except grpc.RpcError as error:
    print("up", error.code().name)

# The channel stays open: what ends the server's call is the cancellation alone.
after = method("unary_unary", "Unary")(b"after")
print("after", after.decode())
