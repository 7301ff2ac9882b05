"""The process of one slot of the local executor: ``process.py FD``, started by that executor.

It communicates over one socket, inherited as file descriptor FD. A thread listens there, also during an epoch, for the request to
stop and for the end of the coordinator, with which the process ends at once.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue

STOP = b"stop"  # not a pickle


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's
    connection: Connection = Connection(int(sys.argv[1]))
    contents: SimpleQueue[bytes] = SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(connection, contents, stop), daemon=True).start()
    sys.path[:] = pickle.loads(contents.get())  # the coordinator's, so that both can import the same
    from study.workers.segment import Cache, attempt, run  # imports torch, a second: after the thread listens

    work = pickle.loads(contents.get()) or run
    cache = Cache()
    while True:
        attempt(work, pickle.loads(contents.get()), connection.send, stop.is_set, cache)


def _listen(connection: Connection, contents: SimpleQueue[bytes], stop: threading.Event) -> None:
    try:
        while True:
            content = connection.recv_bytes()
            if content == STOP:
                stop.set()
            else:  # a task; a request to stop concerned the task before
                stop.clear()
                contents.put(content)
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main()
