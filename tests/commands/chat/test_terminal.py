"""A conversation at a terminal and through pipes, with a model that answers by a rule, a byte a token."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.commands.chat.terminal import HELP, talk
from jaxgpt.data import examples
from jaxgpt.data.chat import Message, encode_until_answer, parse_messages
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.answer_text import Answer, AnswerText, write_answer
from tests.support.terminal import ROOT, Terminal

TOKENIZER = ByteTokenizer()
CHILD = """
import sys, time
from jaxgpt import console, signals
signals.exit_on_signals()
from tests.commands.chat.test_terminal import answer_by_rule, new_conversation
from jaxgpt.commands.chat.terminal import talk
console.leave(console.run(lambda _: talk(new_conversation(), answer_by_rule) or 0, []))
"""
LONG = " and so on" * 500


def new_conversation():
    return Conversation(lambda messages: encode_until_answer(messages, TOKENIZER), 10**4)


def answer_by_rule(conversation, *callbacks):
    """How many messages there are, which attempt it is, and the last message backwards; "slow" takes seconds."""
    import time

    said = conversation.messages[-1].content
    text = f" {len(conversation.messages)}.{conversation.attempt} {said[::-1]}" + LONG * (said == "slow")

    def stream():
        if said == "never":
            print("begun", file=sys.stderr, flush=True)
            time.sleep(1)
        yield []
        for byte in text.encode():
            time.sleep(0.005 if said == "slow" else 0)
            yield [byte]

    conversation.prompt()
    return write_answer(stream(), AnswerText(TOKENIZER, separator=" "), 10**4, *callbacks)


# ---- At a terminal


def test_a_conversation_at_a_terminal(tmp_path):
    """Ctrl-C stops an answer, drops what is typed, and ends the chat when nothing is done between two of them."""
    with Terminal(CHILD, HOME=str(tmp_path)) as terminal:
        assert "note: /help lists the commands; Ctrl-C stops an answer, Ctrl-D ends" in terminal.read_until("\n> ")
        terminal.type("na\u00efve \U0001f642\r")  # each character is of several tokens
        assert terminal.read_until("\n> ").endswith("\r\n1.0 \U0001f642 ev\u00efan\r")
        terminal.type("/regenerate\r")
        assert terminal.read_until("\n> ").endswith("/regenerate\r\n1.1 \U0001f642 ev\u00efan\r")
        terminal.type("\x1b[A\x1b[A\x01x\r")  # twice up, to the beginning of the line: it is edited
        assert terminal.read_until("\n> ").endswith("\r\n3.0 \U0001f642 ev\u00efanx\r")
        terminal.type("slow\r")
        terminal.read_until("5.0 wols and so on and")
        terminal.type("\x03")
        assert "note: the answer was interrupted; /regenerate writes another" in terminal.read_until("\n> ")
        terminal.type("never\r")
        terminal.read_until("begun")
        terminal.type("\x03")
        assert "note: interrupted before the answer began; the message was taken back" in terminal.read_until("\n> ")
        terminal.type("on\r")
        assert terminal.read_until("\n> ").endswith("\r\n7.0 no\r")
        terminal.type("/save ~/talk.jsonl\r")
        assert "saved 8 messages in " in terminal.read_until("\n> ")
        for typed in ("dropped", "too", ""):
            terminal.type(typed + "\x03")
            assert "\nnote: Ctrl-C again, or Ctrl-D, ends the chat" in terminal.read_until("\n> ")
            if typed:
                terminal.type("/reset\r")
                terminal.read_until("\n> ")
        terminal.type("\x03")
        code, out = terminal.read_to_end()
        assert code == 130 and "error: interrupted" in out
        assert terminal.attributes == terminal.before  # readline had changed them
    record = json.loads((tmp_path / "talk.jsonl").read_text())
    *contents, half, last, answer = (each["content"] for each in record["messages"])
    assert contents[:2] == ["na\u00efve \U0001f642", "1.1 \U0001f642 ev\u00efan"]
    assert contents[2:] == ["xna\u00efve \U0001f642", "3.0 \U0001f642 ev\u00efanx", "slow"]
    assert ("5.0 wols" + LONG).startswith(half) and 20 < len(half) < len(LONG) and (last, answer) == ("on", "7.0 no")


@pytest.mark.slow
@pytest.mark.parametrize("typed, shown", [("slow\r", "1.0 wols and"), ("half", "half")])
def test_another_signal_ends_the_chat(typed, shown):
    with Terminal(CHILD) as terminal:
        terminal.read_until("> ")
        terminal.type(typed)
        terminal.read_until(shown)
        terminal.process.send_signal(signal.SIGTERM)
        code, out = terminal.read_to_end()
        assert code == 143 and out.count("error: terminated") == 1 and "Traceback" not in out
        assert terminal.attributes == terminal.before


@pytest.mark.slow
def test_a_narrow_window_shows_all_and_nothing_that_a_terminal_acts_on():
    typed, prompt = "a long message for a window of ten columns", "\n\x1b[?2004h> "
    with Terminal(CHILD, columns=10, term="xterm") as terminal:
        terminal.read_until(prompt)
        terminal.type(typed + "\r")
        assert terminal.read_until(prompt).endswith(f"1.0 {typed[::-1]}\r")
        terminal.type("/help\r")
        assert HELP.replace("\n", "\r\n") in terminal.read_until(prompt)
        terminal.type("\x1b[200~pasted\ntwice\x1b[201~\r")  # as a terminal marks it: one message of two lines
        assert terminal.read_until(prompt).endswith("3.0 eciwt\r\ndetsap\r")
        terminal.type("\x16\x1b[J2 \x16\x9b \x16\u202e\r")  # Ctrl-V has readline take the next key as text
        assert terminal.read_until(prompt).endswith("5.0 \\u202e \\x9b 2J[\\x1b\r")
        terminal.type("\x04")
        assert terminal.read_to_end()[0] == 0


# ---- Through pipes


@pytest.fixture
def run(monkeypatch, capsys):
    def run(typed, conversation=None):
        monkeypatch.setattr(sys, "stdin", typed if typed is None else io.TextIOWrapper(io.BytesIO(typed)))
        talk(conversation or new_conversation(), answer_by_rule, "run")
        return capsys.readouterr()

    return run


def test_lines_of_a_pipe_are_messages(run):
    assert run(b"\xef\xbb\xbfab\r\n\n  \ncd") == ("1.0 ba\n3.0 dc\n", "")
    assert run(b"a\n/quit\nb\n").out == "1.0 a\n"
    assert run(None) == ("", "")  # closed
    with pytest.raises(Exception, match=r"^stdin, line 2: not UTF-8; convert it first: iconv -f latin1 -t utf-8$"):
        run(b"a\ncaf\xe9\n")


def test_commands_change_the_conversation(run):
    conversation = new_conversation()
    out, err = run(b"/system Be brief.\na\n/regenerate\n/regenerate\n/system No.\nb\n/system\nc\n", conversation)
    assert out == "2.0 a\n2.1 a\n2.2 a\n4.0 b\n5.0 c\n" and err == ""
    assert run(b"/system x\n/reset\nd\n", conversation).out == "2.0 d\n"
    assert conversation.messages == [Message("system", "x"), Message("user", "d"), Message("assistant", "2.0 d")]


def test_a_saved_conversation_trains_on_what_the_model_read(run, tmp_path):
    conversation = new_conversation()
    path = tmp_path / "talk.jsonl"
    typed = f"/system Be brief.\n  Hi! \u2028\nna\u00efve \U0001f642\n/save {path}\n"
    assert run(typed.encode(), conversation).err == f"note: saved 5 messages in {path}\n"
    assert parse_messages("", json.loads(path.read_text())) == conversation.messages
    loaded = examples.load(str(path), B=1, T=256, tokenizer=TOKENIZER)[0].table["tokens"][0].tolist()
    ids = encode_until_answer(conversation.messages[:4], TOKENIZER)
    assert loaded[: len(ids)] == ids and loaded[len(ids) :][:10] == list(b" 4.0 \xf0\x9f\x99\x82 ")


@pytest.mark.parametrize(
    "line, message",
    [
        ("/nonsense", "/nonsense: no such command; /help lists them"),
        ("/regenerate", "/regenerate: there is no answer yet"),
        ("/save x.jsonl", "/save: there is no answer yet"),
        ("a\n/save", "/save : give a file whose name ends in .jsonl, which train --data needs"),
        ("a\n/save x.json", "/save x.json: give a file whose name ends in .jsonl"),
        ("a\n/save full.jsonl", "/save full.jsonl: exists already; choose another file"),
        ("a\n/save none/x.jsonl", "/save none/x.jsonl: No such file or directory; choose a file that can be written"),
        ("a\n/save run/checkpoints/9/x.jsonl", "/save run/checkpoints/9/x.jsonl overlaps with MODEL run, which"),
        ("a\n/save \0.jsonl", r"/save \x00.jsonl: embedded null byte; choose another file"),
        ("a\n/save ~nobody-of-that-name/x.jsonl", "/save ~nobody-of-that-name/x.jsonl: No such file or directory"),
        ("a" * 10**4, "the last message has 10,018 tokens with the system prompt, and there is room for 10,000"),
    ],
)
def test_what_is_wrong_is_one_line_and_the_chat_goes_on(line, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full.jsonl").write_text("{}")
    (tmp_path / "run" / "checkpoints" / "9").mkdir(parents=True)
    out, err = run(f"{line}\nb\n".encode())
    assert err.startswith(f"note: {message}") and err.count("\n") == 1
    assert out.splitlines()[-1] == ("3.0 b" if line.startswith("a\n") else "1.0 b")
    assert sorted(os.listdir()) == ["full.jsonl", "run"] and not os.listdir("run/checkpoints/9")
    assert (tmp_path / "full.jsonl").read_text() == "{}"


def test_a_message_that_is_taken_back_leaves_the_older_turns(run, monkeypatch):
    conversation = new_conversation()
    conversation.room = 60
    run(b"a\n", conversation)

    def interrupt(conversation, *_):
        assert len(conversation.prompt()) < 60 and conversation.first_read == 2
        return Answer("", "interrupted")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 30)))
    talk(conversation, interrupt)
    assert conversation.first_read == 0 and len(conversation.messages) == 2


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_traceback():
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", CHILD], cwd=ROOT, **streams) as process:
        process.stdin.write(b"slow\n")
        process.stdin.flush()
        process.stdout.read(20)
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""
