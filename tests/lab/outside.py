"""outside.py LOG ADDRESS:PORT...: what lies outside of the lab's cluster. Run in the "outside" network namespace.

Accepts every connection, greets it, and writes a line to LOG for each opening, line received and ending, so that a
test can tell from here what still gets through. A connection lasts until the other side ends it.
"""

import selectors
import socket
import sys
import time


def listen(place):
    address, port = place.rsplit(":", 1)
    server = socket.create_server((address, int(port)), backlog=256)
    server.setblocking(False)
    return server


class Outside:
    def __init__(self, log, places):
        self.log = open(log, "a", buffering=1)
        self.poll = selectors.DefaultSelector()
        for place in places:
            self.poll.register(listen(place), selectors.EVENT_READ, place)

    def note(self, what, peer, place, rest=""):
        print(f"{time.time():.3f} {what} {peer[0]}:{peer[1]} {place} {rest}".rstrip(), file=self.log)

    def accept(self, server, place):
        connection, peer = server.accept()
        connection.setblocking(False)
        self.note("opened", peer, place)
        self.poll.register(connection, selectors.EVENT_READ, (peer, place))
        try:
            connection.send(b"outside\n")
        except OSError:
            pass  # already gone: the next read says so

    def read(self, connection, peer, place):
        try:
            data = connection.recv(65536)
        except OSError as error:
            self.end(connection, peer, place, str(error))
            return
        if not data:
            self.end(connection, peer, place, "closed by the peer")
            return
        for line in data.decode(errors="replace").splitlines():
            self.note("received", peer, place, line)

    def end(self, connection, peer, place, why):
        self.note("ended", peer, place, why)
        self.poll.unregister(connection)
        connection.close()

    def run(self):
        while True:
            for key, _ in self.poll.select():
                if isinstance(key.data, str):
                    self.accept(key.fileobj, key.data)
                else:
                    self.read(key.fileobj, *key.data)


Outside(sys.argv[1], sys.argv[2:]).run()
