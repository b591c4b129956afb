"""A conversation with whoever types: lines in, answers out, and the commands that begin with a slash."""

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxgpt import console, signals
from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.data.chat import Message
from jaxgpt.data.records import is_unicode
from jaxgpt.errors import JaxgptError, UsageError
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.inference.answer_text import Answer

PROMPT = "> "
HELP = """\
/regenerate   answer the last message again
/system TEXT  replace the system prompt
/system       remove it
/reset        forget all but it
/save FILE    write the conversation, for
              train --data FILE.jsonl
/quit         end; so does Ctrl-D
Ctrl-C stops an answer."""
PASTE_MARKS_OFF = b"\x1b[?2004l"  # what readline prints when it gives the terminal back


def talk(conversation: Conversation, answer: Callable[..., Answer], model: str = "") -> None:
    """Answer messages, a line each, and run commands, until stdin ends or one is /quit.

    Args:
      answer: (conversation, show, interrupted) to the answer to its last message; see answer.write_answer.
      model: its folder, into whose checkpoints nothing is saved.
    """
    if is_terminal := _is_terminal():
        console.note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D ends the chat")
    with _restored_terminal() if is_terminal else contextlib.nullcontext():
        for line in _type_lines() if is_terminal else _read_lines():
            before = dataclasses.replace(conversation, messages=[*conversation.messages])
            try:
                if not _run_line(conversation, line, answer, model):
                    return
            except JaxgptError as error:
                vars(conversation).update(vars(before))
                console.note(" ".join(str(error).split()))


def _run_line(conversation: Conversation, line: str, answer: Callable[..., Answer], model: str) -> bool:
    """Run a command, or answer a message; False: the chat ends."""
    name, _, argument = line.strip().partition(" ")
    if not line.startswith("/"):
        conversation.add(Message("user", line))
        _write_answer(conversation, answer)
    elif name == "/regenerate":
        if not conversation.discard_answer():
            raise UsageError("/regenerate: there is no answer yet")
        _write_answer(conversation, answer)
    elif name == "/system":
        conversation.set_system(argument.strip())
    elif name == "/reset":
        conversation.reset(conversation.messages[: conversation.num_system])
    elif name == "/save":
        _save(conversation, argument.strip(), model)
    elif name == "/help":
        print(HELP)
    elif name != "/quit":
        raise UsageError(f"{name}: no such command; /help lists them")
    return name != "/quit"


def _write_answer(conversation: Conversation, answer: Callable[..., Answer]) -> None:
    """Answer the last message, on stdout, until it ends or, at a terminal, Ctrl-C is pressed."""

    def show(text: str) -> None:
        print(console.escape_for_terminal(text), end="", flush=True)

    with signals.stop_signals(message=b"") if _is_terminal() else contextlib.nullcontext([]) as received:
        written = answer(conversation, show, lambda: received)
        print()
    if received and received[0] != signal.SIGINT:
        os.kill(os.getpid(), received[0])  # outside of this context it ends the process
    if written.finish_reason == "interrupted" and not written.content:
        raise UsageError("interrupted before the answer began; the message was taken back")
    conversation.add(Message("assistant", written.content))
    if written.finish_reason == "interrupted":
        console.note("the answer was interrupted; /regenerate writes another")
    if written.finish_reason == "length":
        console.note("the answer was cut: it reached --max-new-tokens, or the end of the model's context")


def _save(conversation: Conversation, name: str, model: str) -> None:
    """Write the conversation as a record that `train --data` reads."""
    if not any(message.role == "assistant" for message in conversation.messages):
        raise UsageError("/save: there is no answer yet")
    if not name.endswith(".jsonl"):
        raise UsageError(f"/save {name}: give a file whose name ends in .jsonl, which train --data needs")
    path = Path(os.path.expanduser(name))
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    try:
        require_writable("/save", path)
        require_separate("/save", path, [("MODEL", model)])
        require_new("/save", path)
        write_whole(path, json.dumps({"messages": messages}, ensure_ascii=False) + "\n", new=True)
    except (OSError, ValueError) as error:  # ValueError: it is no name of a file
        raise UsageError(f"/save {name}: {getattr(error, 'strerror', None) or error}; choose another file") from None
    console.note(f"saved {console.plural(len(messages), 'message')} in {path}")


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _type_lines() -> Iterator[str]:
    """What is typed, with a prompt and, by readline, editing and the earlier lines; what is pasted is one message."""
    with contextlib.suppress(ImportError):  # Windows
        import readline

        if os.environ.get("TERM") != "dumb":
            readline.parse_and_bind("set enable-bracketed-paste on")
    line: str | None = ""
    while True:
        was_interrupted = line is None
        try:
            line = _type_line(was_interrupted)
        except EOFError:
            print()
            return
        except UnicodeDecodeError as error:
            line = os.fsdecode(error.object)
        if line is None:
            print()
            console.note("Ctrl-C again, or Ctrl-D, ends the chat")
        elif not is_unicode(line):
            console.note("the line is not UTF-8; set the terminal to UTF-8")
        elif line.strip():
            yield line


def _type_line(was_interrupted: bool) -> str | None:
    """A line that is typed; None: it was dropped by Ctrl-C, which ends the process if one came just before.

    So one that comes too late for an answer, or too early, does not end the chat.
    """
    try:
        with signals.stop_signals(message=b"", raises=True), _alarms():
            return input(PROMPT)
    except KeyboardInterrupt as error:
        if was_interrupted or error.args != (signal.SIGINT,):
            os.kill(os.getpid(), *error.args)
        return None


@contextlib.contextmanager
def _alarms() -> Iterator[None]:
    """Within this context, readline, which sees a signal only while it waits for a key, sees one that came before."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _read_lines() -> Iterator[str]:
    """The lines of a stdin that is no terminal."""
    content = iter(sys.stdin.buffer.readline, b"") if sys.stdin else iter([])  # None: closed
    for number, line in enumerate(content, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UsageError(f"stdin, line {number}: not UTF-8; convert it first: iconv -f latin1 -t utf-8") from None
        if text.strip():
            yield text


@contextlib.contextmanager
def _restored_terminal() -> Iterator[None]:
    """Within this context, a signal that ends the process while readline has the terminal leaves it as it was."""
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    before = termios.tcgetattr(0)

    def restore() -> None:
        termios.tcsetattr(0, termios.TCSANOW, before)
        os.write(1, PASTE_MARKS_OFF)

    with signals.before_exit(restore):
        yield
