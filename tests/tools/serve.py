"""Serve the application on a listening socket that is handed over: `serve.py FD`.

The socket belongs to the test and stays open while daemons come and go, as it does under gunicorn.
"""

import socket
import sys

import uvicorn

from task_runner.api.star_app import create_app

server = uvicorn.Server(uvicorn.Config(create_app(), access_log=False, timeout_graceful_shutdown=5))
server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
