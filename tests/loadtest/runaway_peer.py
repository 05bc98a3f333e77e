"""A peer whose child leads a session of its own, as BentoML's workers do; it answers every request with its pid."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from loadtest.peers import job


class _Handler(BaseHTTPRequestHandler):
    child = 0

    def do_POST(self) -> None:
        body = json.dumps({"child": self.child}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def main() -> None:
    """Serve until the process is ended, and never end the child, which ignores SIGTERM."""
    mine = job.of_environment()
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    _Handler.child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True).pid
    for worker in range(mine.recommenders):
        (mine.ready / str(worker)).touch()
    HTTPServer(("127.0.0.1", mine.port), _Handler).serve_forever()


if __name__ == "__main__":
    assert os.getsid(0) == os.getpid()
    main()
