"""Commands as a user runs them, each in a process of its own, without the seconds that its imports take.

A server, which is this file run as a script, imports torch and fairseq, not the plugin, and forks for each command.
All of them so have one seed of hashes: what must not depend on it is tested with processes that start from nothing.
"""

import functools
import json
import logging
import os
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def run(command: str, *arguments, input: str = "", env: dict | None = None) -> subprocess.CompletedProcess:
    """Run an installed command in the root of the repository and keep what it prints, as subprocess.run does."""
    argv = [command, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(input)
        server = _server()
        print(json.dumps([argv, [*map(str, streams)], dict(env or os.environ)]), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        output, errors = (path.read_text() for path in streams[1:])
    return subprocess.CompletedProcess(argv, status, output, errors)


@functools.cache
def _server() -> subprocess.Popen:
    """It ends with this process, which closes its standard input."""
    command = [sys.executable, "-P", __file__]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> None:
    import fairseq  # noqa: F401
    import torch._dynamo  # noqa: F401  (by the first optimizer)

    for request in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(*json.loads(request))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(argv: list[str], streams: list[str], env: dict[str, str]) -> None:
    """Take the place of the command's script; does not return."""
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    logging.root.handlers.clear()  # the command makes its own
    (script,) = entry_points(group="console_scripts", name=argv[0])
    sys.exit(script.load()())


if __name__ == "__main__":
    _serve()
