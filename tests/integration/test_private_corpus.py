"""A private corpus through every command under umask 000: no word of it is shown, and no file is others' to read."""

import contextlib
import gzip
import os
import tempfile
from pathlib import Path

import pytest

from jaxgpt import commands, console
from jaxgpt.inference import memorization
from tests.support import private_corpus
from tests.support.private_corpus import COMMANDS, FAULTS, LABEL, PLANTED, WITH_TEXT

pytest.importorskip("datatrove", reason="pip install -r requirements-data.txt")
PART = PLANTED[:4].encode()  # a quote may be cut
ROOT = Path(__file__).parents[2]
DATA = (".bin", ".zst", ".parquet")  # of the text itself, as tokens or packed


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which all commands ran, its inputs, and what each command printed and its exit code."""
    folder, printed = tmp_path_factory.mktemp("private"), {}
    inputs = private_corpus.write_files(folder)
    places = {"JAXGPT_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    with pytest.MonkeyPatch.context() as patched, contextlib.chdir(folder):
        for name, value in places.items():
            patched.setenv(name, value)
        patched.setattr(memorization, "REFERENCES", 127)  # else half of all the time goes into their losses
        umask = os.umask(0)
        try:
            for words in (COMMANDS + FAULTS).strip().splitlines():
                printed[words] = capture(words.split())
        finally:
            assert os.umask(umask) == 0
    return folder, inputs, printed


def capture(words):
    """The exit code, and all that is printed, also by libraries and other processes."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with open(1, "w", closefd=False) as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                code = console.run(commands.main, words)
        finally:
            for number, each in zip((1, 2), kept, strict=True):
                os.dup2(each, number)
                os.close(each)
        file.seek(0)
        return code, file.read()


def written(folder, inputs):
    return [path for path in folder.rglob("*") if path not in inputs]


def contents(path):
    """The bytes of a file, unpacked."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    return path.read_bytes()


def require_that_all_commands_run_and_all_faults_are_refused(ran):
    _, _, printed = ran
    codes = {words: printed[words][0] for words in COMMANDS.strip().splitlines()}
    assert {words: printed[words] for words, code in codes.items() if code != 0} == {}
    used = {words.split()[0] for words in codes}
    # The first reads no text, the second benchmarks' files; servers, which have no end, are asked by their own tests.
    assert used >= commands.COMMANDS.keys() - {"fit", "glue", "review", "serve"}
    faults = {words: printed[words] for words in FAULTS.strip().splitlines()}
    assert {words: each for words, each in faults.items() if b"Traceback" in each[1]} == {}
    assert sum(code != 0 for code, _ in faults.values()) >= len(faults) - 2


def require_no_word_of_the_corpus_in_what_is_printed(ran):
    _, _, printed = ran
    shown = {words: output for words, (_, output) in printed.items() if PART in output}
    assert shown == {}
    labels = {words for words, (_, output) in printed.items() if LABEL.encode() in output}
    assert labels <= {words for words in printed if "labels" in words}  # of which they are the classes


def require_no_word_of_the_corpus_in_what_is_logged_or_reported(ran):
    folder, inputs, _ = ran
    files = [path for path in written(folder, inputs) if path.is_file() and path.suffix not in DATA]
    files = [path for path in files if folder / "cache" / "tokens" not in path.parents]
    assert len(files) > 150
    found = {path.relative_to(folder) for path in files if PART in contents(path)}
    assert {path for path in found if path.name not in WITH_TEXT} == set()
    assert {Path("written.jsonl"), Path("rl/answers.jsonl")} <= found  # the search finds what is there
    logs = [path for path in files if path.name in ("log.jsonl", "dropped.jsonl", "report.json", "meta.json")]
    assert logs and not [path for path in logs if LABEL.encode() in path.read_bytes()]


def require_no_file_and_no_folder_open_to_others(ran):
    folder, inputs, _ = ran
    paths = written(folder, inputs)
    modes = {str(path.relative_to(folder)): path.lstat().st_mode for path in paths if not path.is_symlink()}
    open_to_others = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    assert len(paths) > 200 and open_to_others == {}


def require_text_where_it_is_asked_for(ran):
    """So that the others would see it."""
    folder, _, _ = ran
    with contextlib.chdir(folder):
        for words in ("replay run --step 1 --show-text", "inspect made --show-text", "replay dpo --step 1 --show-text"):
            code, output = capture(words.split())
            assert code == 0 and PART in output, words
        assert PART in (folder / "made" / "report.html").read_bytes()


@pytest.mark.slow
def test_what_is_private_stays_so(ran):
    """One test, since each process that has one of several would run all commands."""
    require_that_all_commands_run_and_all_faults_are_refused(ran)
    require_no_word_of_the_corpus_in_what_is_printed(ran)
    require_no_word_of_the_corpus_in_what_is_logged_or_reported(ran)
    require_no_file_and_no_folder_open_to_others(ran)
    require_text_where_it_is_asked_for(ran)
