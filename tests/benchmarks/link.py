"""A link with a rate for each connection and a delay: run as a process, it prints its port.

``python -m tests.benchmarks.link PORT RATE DELAY``: bytes to 127.0.0.1:PORT pass at RATE
bytes a second; accepting, and what comes back, takes DELAY seconds.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

STEP = 128 << 10  # bytes moved at once: 3 ms at 40 MB/s
BUFFER = 256 << 10  # bytes of the receiver's buffer


def serve(target: int, rate: float, delay: float) -> None:
    """Accept for ever."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        print(listener.getsockname()[1], flush=True)
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_connect, args=(near, target, rate, delay), daemon=True).start()


def _connect(near: socket.socket, target: int, rate: float, delay: float) -> None:
    time.sleep(delay)
    far = socket.create_connection(("127.0.0.1", target))
    for one in (near, far):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_down, args=(far, near, delay), daemon=True).start()
    _up(near, far, rate)


def _up(near: socket.socket, far: socket.socket, rate: float) -> None:
    buffer = memoryview(bytearray(STEP))
    due = time.monotonic()
    with contextlib.suppress(OSError):
        while size := near.recv_into(buffer):
            far.sendall(buffer[:size])
            # What was not used of the rate is lost, but for one step.
            due = max(due, time.monotonic() - STEP / rate) + size / rate
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_WR)


def _down(far: socket.socket, near: socket.socket, delay: float) -> None:
    with contextlib.suppress(OSError):
        while data := far.recv(64 << 10):
            time.sleep(delay)
            near.sendall(data)
    for one in (near, far):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
