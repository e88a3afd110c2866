"""verb.py SOCKET VERB…: have a verb of `task-runner` run with this program's streams, directory and environment
(docsamples.Verbs), and end as it ends. Started with -IS, for it must be quick."""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    server.connect(sys.argv[1])
    what = {"arguments": sys.argv[2:], "cwd": os.getcwd(), "env": dict(os.environ)}
    socket.send_fds(server, [json.dumps(what).encode()], [0, 1, 2])
    code = int(server.recv(100) or b"-9")
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
