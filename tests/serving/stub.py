"""A small REST server that answers as a test says: late, wrongly, or not at all."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub:
    """x -> x + 1 for the rows of each POST, unless the next of `script` says otherwise.

    A script's item is an HTTP status, or "drop" (no answer), "hang" (none until the end), "drip"
    (one byte at a time), "bare" (no JSON), "short" (a row too few), "last" (an answer, after which
    the connection is closed without a word).
    """

    def __init__(self, *script):
        self.script, self.bodies, self.headers, self.connections = list(script), [], [], 0
        self.input, self.over, self.lock = "x", threading.Event(), threading.Lock()

    def __enter__(self):
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                stub.connections += 1

            def do_GET(self):
                info = {"dtype": "DT_FLOAT"}
                signature = {"inputs": {stub.input: info}, "outputs": {"y": info}}
                found = {"signature_def": {"serving_default": signature}}
                self.answer(200, {"metadata": {"signature_def": found}})

            def do_POST(self):
                stub.post(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, status, document):
                self.send(status, json.dumps(document).encode())

            def send(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # a client that has gone

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def post(self, handler, body):
        with self.lock:
            self.bodies.append(body)
            self.headers.append(handler.headers)
            step = self.script.pop(0) if self.script else 200
        values = [next(iter(row.values())) + 1 for row in body["instances"]]
        if step == "drop":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif step == "hang":
            self.over.wait(10)
            handler.close_connection = True
        elif step == "drip":
            for _ in range(500):
                if not self.over.wait(0.02):
                    handler.wfile.write(b"H")
        elif step == "bare":
            handler.send(200, b"fine")
        elif step == "short":
            handler.answer(200, {"predictions": values[1:]})
        elif step in (200, "last"):
            if body["instances"][0].get("x") == 0:
                time.sleep(0.1)  # the first rows come last
            handler.answer(200, {"predictions": values})
            handler.close_connection = step == "last"
        else:
            handler.answer(step, {"error": f"said {step}"})
