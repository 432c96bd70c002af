"""Run a command until it ends, or standard input does: then interrupt it once, and kill it if that takes too long.

python -P attend.py SECONDS COMMAND...

Snakemake cancels what it has submitted when it is interrupted, and gives up on that when it is interrupted again. A
study that ends, by SIGKILL even, closes our input, and nobody else knows our session.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    seconds, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # for the command: a study in the background ignores it
    # Open files are inherited: the study's lock.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)

    def end() -> None:
        while os.read(0, 1):
            pass
        child.send_signal(signal.SIGINT)
        try:
            child.wait(float(seconds))
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end, daemon=True).start()
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
