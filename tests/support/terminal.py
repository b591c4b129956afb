"""A process in a terminal of its own: what is typed there, and what appears."""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Of a new session's first process, the terminal that it opens becomes its own, which sends it Ctrl-C as a signal.
OPEN = (
    "import os, signal\nos.open(os.ttyname(0), os.O_RDWR)\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
)


class Terminal:
    """A context in which Python runs `code` in a pseudo-terminal, with `words` as its arguments."""

    def __init__(self, code: str, *words: str, columns: int = 80, term: str = "dumb", **environment: str):
        self._code, self._words, self._columns = OPEN + code, words, columns
        self._environment = os.environ | {"TERM": term, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)} | environment

    def __enter__(self) -> "Terminal":
        self._us, self._them = os.openpty()
        fcntl.ioctl(self._us, termios.TIOCSWINSZ, struct.pack("4H", 10, self._columns, 0, 0))
        self.before = termios.tcgetattr(self._them)
        command = [sys.executable, "-c", self._code, *self._words]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self._them)
        self.process = subprocess.Popen(command, env=self._environment, start_new_session=True, **streams)
        self.seen = ""
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._us)
        os.close(self._them)

    @property
    def attributes(self) -> list:
        """Whether it echoes, and the like, as termios has it."""
        return termios.tcgetattr(self._them)

    def type(self, text: str) -> None:
        os.write(self._us, text.encode())

    def read_until(self, text: str, seconds: float = 60) -> str:
        """What has appeared since the last call, up to this text."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._us], [], [], max(end - time.monotonic(), 0))
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += self._read()
        before, _, self.seen = self.seen.partition(text)
        return before

    def read_to_end(self) -> tuple[int, str]:
        """The exit code, and what appeared until then."""
        code = self.process.wait(timeout=60)
        while select.select([self._us], [], [], 0.1)[0] and (more := self._read()):
            self.seen += more
        return code, self.seen

    def _read(self) -> str:
        content = b""
        with contextlib.suppress(OSError):
            content = os.read(self._us, 4096)
            while content[-1:] >= b"\x80":  # perhaps half of a character
                content += os.read(self._us, 1)
        return content.decode()
