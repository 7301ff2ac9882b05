"""The process of one slot of the local executor: ``process.py FD``, started by that executor alone.

It talks over one socket, inherited as file descriptor FD. A thread listens there, also in the middle of an epoch: to be asked
to stop, and for the end of the coordinator, with which the process ends at once.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue

STOP = b"stop"  # no pickle


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's
    connection: Connection = Connection(int(sys.argv[1]))
    contents: SimpleQueue[bytes] = SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(connection, contents, stop), daemon=True).start()
    sys.path[:] = pickle.loads(contents.get())  # the coordinator's: what it can import, this process can
    from study.workers.segment import Cache, attempt, run  # torch, a second: not before the thread listens

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
            else:  # a task: the one before has ended, and what that was asked is of no concern now
                stop.clear()
                contents.put(content)
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main()
