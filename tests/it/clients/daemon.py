"""A daemon as the seed's were, in Python: a command is a line, and its reply is the line of the same name. No tags, no
`error`: a command that it doesn't have is passed over. It listens on IPv6 alone if it is told to.

    python3 daemon.py NAME [::1]      prints its port, then the arguments of every `note` it is sent
"""

import json
import os
import socket
import socketserver
import sys

NAME = sys.argv[1]
ADDRESS = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"


def relay(port, command, *arguments):
    """Calls another daemon, and returns what that one did."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as other:
        other.sendall(f"{command} {json.dumps(arguments)}\n".encode())
        for line in other.makefile("r", encoding="utf-8", newline="\n"):
            name, _, result = line.rstrip("\n").partition(" ")
            if name == command:
                return json.loads(result)[0]


COMMANDS = {
    "dae": (0, lambda: {"name": NAME, "pid": os.getpid(), "port": server.server_address[1]}),
    "options": (0, lambda: {name: count for name, (count, _) in COMMANDS.items()}),
    "add": (2, lambda a, b: a + b),
    "greet": (1, lambda who: f"Hello, {who}, from Python"),
    "relay": (3, relay),
}


class Guest(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            name, _, arguments = line.decode().rstrip("\r\n").partition(" ")
            arguments = json.loads(arguments or "[]")
            if name == "note":
                # An event: it has no reply.
                print(json.dumps(arguments), flush=True)
            elif name in COMMANDS:
                result = COMMANDS[name][1](*arguments)
                self.wfile.write(f"{name} {json.dumps([result])}\n".encode())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    address_family = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET


server = Server((ADDRESS, 0), Guest)
print(server.server_address[1], flush=True)
server.serve_forever()
