"""`embedonce warm` works in a process of its own, which outlives the one that is killed.

What providers were asked for when a command dies is billed, and only the process that asked can take the
answer. So the command starts itself a second time, in a session of its own, and holds a pipe to it: when that
breaks, whatever killed the command, the process behind it asks for nothing more, waits for what is on its
way, stores it, and ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

LEASH = "EMBEDONCE_LEASH_FD"
"""In the environment of the process that works: which descriptor to watch."""
PROGRAM = "from embedonce.cli import main; main()"


def wanted(arguments: Sequence[str]) -> bool:
    """Whether these (without the program's name) are a command that buys, and no such process runs yet. Not
    what reads standard input: nobody can say when that ends."""
    buys = bool(arguments) and arguments[0] == "warm" and not {"--dry-run", "--help"} & set(arguments)
    return buys and "-" not in arguments and LEASH not in os.environ


def run(arguments: Sequence[str]) -> int:
    """Its exit status. SIGINT and SIGTERM are passed on, and a stop by the terminal (Ctrl-Z) stops both."""
    watched, held = os.pipe()
    try:
        worker = subprocess.Popen(  # noqa: S603  # this very program
            [sys.executable, "-P", "-c", PROGRAM, *arguments],
            env=os.environ | {LEASH: str(watched)},
            pass_fds=(watched,),
            start_new_session=True,
        )
        os.close(watched)

        def forward(number: int, _frame: FrameType | None) -> None:
            worker.send_signal(number)

        def pause(_number: int, _frame: FrameType | None) -> None:
            worker.send_signal(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            worker.send_signal(signal.SIGCONT)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, forward)
        signal.signal(signal.SIGTSTP, pause)
        code = worker.wait()
    finally:
        os.close(held)
    return code if code >= 0 else 128 - code


def on_broken(act: Callable[[], object]) -> None:
    """In the process that works: call it when whoever started it is gone. Elsewhere nothing."""
    if LEASH not in os.environ:
        return
    watched = int(os.environ[LEASH])

    def watch() -> None:
        os.read(watched, 1)
        # Nobody reads what it would say, and a broken pipe must not end it.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (1, 2):
            os.dup2(nowhere, standard)
        act()

    threading.Thread(target=watch, name="leash", daemon=True).start()
