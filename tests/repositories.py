"""Git repositories for tests: a work tree, and a bare one as a remote, driven with the real git."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Repository:
    """A repository in `folder`; its commands raise if git fails."""

    def __init__(self, folder: Path, bare: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "main", *(["--bare"] if bare else []))
        self("config", "user.name", "Ann")
        self("config", "user.email", "ann@example.org")

    @classmethod
    def clone(cls, remote: Repository, folder: Path) -> Repository:
        subprocess.run(["git", "clone", "-q", remote.folder, folder], check=True, capture_output=True)
        return cls(folder)

    def __call__(self, *words: str, **more: str) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | more
        done = subprocess.run(["git", *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"git {' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def write(self, path: str, text: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, message: str = "edit", **files: str | bytes) -> str:
        """Writes `files`, whose names have `__` for a slash, commits everything, and returns the commit."""
        for name, text in files.items():
            self.write(name.replace("__", "/").replace("_yaml", ".yaml").replace("_py", ".py"), text)
        self("add", "-A")
        self("commit", "-q", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self("rev-parse", "HEAD")

    def push(self, *words: str) -> str:
        self("push", "-q", *words, "origin", "HEAD")
        return self.head

    def show(self, path: str = "queues.yaml", commit: str = "HEAD") -> str:
        return self("show", f"{commit}:{path}")

    def log(self, form: str = "%s", *words: str) -> list[str]:
        return self("log", f"--format={form}", *words).splitlines()


@contextmanager
def served(folder: Path, user: str, password: str) -> Iterator[str]:
    """The repositories in `folder` over HTTP, for who knows the password: where they are."""
    right = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != right:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "REMOTE_USER": user,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=True)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(lines.pop("Status", "200").split()[0]))
            for name, value in {**lines, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
