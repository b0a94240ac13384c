"""Runs a command at a terminal of its own and plays the person in front of it. Prints what was seen as JSON."""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

printed = b""
status = None


def size(rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def until(words):
    """Reads until these are printed, or the command has ended."""
    global printed, status
    end = time.monotonic() + 120
    while words not in printed and time.monotonic() < end:
        if select.select([master], [], [], 0.5)[0]:
            printed += os.read(master, 4096)
        elif status is None:
            ended, how = os.waitpid(child, os.WNOHANG)
            status = how if ended else None
        else:
            return


master, slave = pty.openpty()
size(24, 100)
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(slave, stream)
    os.execvpe(sys.argv[1], sys.argv[1:], os.environ)
until(b"one key: ")
os.write(master, b"k")
until(b"ready")
size(31, 90)
until(b"changed")
os.write(master, b"\x03")
until(b"stopped")
if status is None:
    status = os.waitpid(child, 0)[1]
restored = termios.tcgetattr(slave) == before
print(json.dumps({"printed": printed.decode(errors="replace"), "code": os.waitstatus_to_exitcode(status), "restored": restored}))
