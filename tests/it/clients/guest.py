"""A Common TCP guest in a few lines of Python: sends commands, prints what they return. It knows no data of errors."""

import json
import socket
import sys


class Guest:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.lines = self.socket.makefile("r", encoding="utf-8", newline="\n")

    def call(self, name, *arguments):
        self.socket.sendall(f"{name} {json.dumps(arguments)}\n".encode())
        answered, _, result = self.lines.readline().rstrip("\n").partition(" ")
        result = json.loads(result)
        if answered == "error":
            raise RuntimeError(result[0]["message"])
        assert answered == name, answered
        return result[0] if result else None


guest = Guest(int(sys.argv[1]))
print(guest.call("dae")["name"])
print(guest.call("add", 1, 2))
print(guest.call("echo", "héllo 👾"))
for arguments in (("fail", "boom"), ("refuse", "not-found", "no such key", {"key": "a"})):
    try:
        guest.call(*arguments)
    except RuntimeError as error:
        print(error)
print(guest.call("echo", "and on"))
