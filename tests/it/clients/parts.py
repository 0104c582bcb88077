"""A Common TCP guest that asks for replies in parts, in a few lines of Python."""

import json
import socket
import sys

guest = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
lines = guest.makefile("r", encoding="utf-8", newline="\n")
guest.sendall(b'dae [{"parts":true}]\ncount#7 [3]\n')
while True:
    command, _, arguments = lines.readline().rstrip("\n").partition(" ")
    arguments = json.loads(arguments)
    if command == "part#7":
        print("item", arguments[0]["item"])
    elif command == "count#7":
        print("end", arguments)
        break
