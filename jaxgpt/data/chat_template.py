"""The chat template of a model in Hugging Face's layout: a text in Jinja, rendered in jinja2's sandbox."""

import contextlib
import dataclasses
import datetime
import functools
import json
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jaxgpt.data.chat import Message
from jaxgpt.errors import DataError, UsageError
from jaxgpt.json_file import read_object

try:
    import resource
except ImportError:  # Windows
    resource = None

if TYPE_CHECKING:
    import jinja2

FILE, CONFIG, SPECIAL_TOKENS = "chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"
MAX_BYTES = 1 << 20  # of a template; those in use have some 10,000
TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # special tokens that a template may name
SECONDS, MEMORY = 10, 512 << 20  # that a template may take; those in use take a millisecond
SANDBOX = (3, 1, 6)  # the first version without known escapes, as transformers requires it


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A template and where it is, with the special tokens that it may name: {"bos_token": "<s>", ...}."""

    path: Path
    source: str
    special_tokens: Mapping[str, str]

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation up to the assistant's next answer, as `apply_chat_template` renders it.

        Raises:
          DataError: the template refuses the messages, or fails.
          UsageError: jinja2 is not installed, or too old.
        """
        given = [{"role": message.role, "content": message.content} for message in messages]
        try:
            _import_jinja()
            with _limited():
                text = _compile(self.source).render(
                    messages=given, tools=None, documents=None, add_generation_prompt=True, **self.special_tokens
                )
            if len(text) > MAX_BYTES + 8 * sum(len(message.content) for message in messages):
                raise OverflowError(f"it makes a text of {len(text):,} characters")
            return text
        except UsageError:
            raise
        except Exception as error:  # the template is a program of its own, and may fail in any way
            reason = self._describe(error)
            raise DataError(f"{self.path}: the chat template refuses the conversation ({reason:.300})") from None

    def _describe(self, error: Exception) -> str:
        """An error and its line in the template; its message only where that can't quote the conversation."""
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
        where = f" in line {lines[-1]}" if lines else ""
        is_ours = isinstance(error, TimeoutError | OverflowError) or type(error).__name__ == "TemplateSyntaxError"
        is_literal = str(error) != "" and str(error) in self.source
        return f"{type(error).__name__}{f': {error}' if is_ours or is_literal else where}"


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The template of a folder: chat_template.jinja, or in tokenizer_config.json; None: it has none.

    Raises:
      DataError: it can't be read.
    """
    config = _read_object(folder / CONFIG)
    path, source = folder / CONFIG, config.get("chat_template")
    if (folder / FILE).is_file():
        path = folder / FILE
        source = _read_text(path)
    if isinstance(source, list):  # several with names
        named = (each for each in source if isinstance(each, dict) and each.get("name") == "default")
        source = next(named, {}).get("template")
        if source is None:
            raise DataError(f"{path}: none of its chat templates is named 'default'; name one so")
    if source is None:
        return None
    if not isinstance(source, str):
        raise DataError(f"{path}: chat_template is of type {type(source).__name__}, and must be a text")
    settings = _read_object(folder / SPECIAL_TOKENS) | config
    spelled = {f"{name}_token": settings.get(f"{name}_token") for name in TOKENS}
    spelled = {name: each.get("content") if isinstance(each, dict) else each for name, each in spelled.items()}
    return ChatTemplate(path, source, {name: text for name, text in spelled.items() if isinstance(text, str)})


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: can't be read ({error}); copy it again") from None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return content.decode()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error}); copy it again") from None


def _import_jinja() -> None:
    try:
        import jinja2.ext
        import jinja2.sandbox
    except ImportError:
        raise UsageError("a model's own chat template needs jinja2: pip install -r requirements-chat.txt") from None
    if tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdecimal()) < SANDBOX:
        raise UsageError(f"jinja2 {jinja2.__version__} is too old: pip install -r requirements-chat.txt")


@functools.lru_cache(maxsize=1)
def _compile(source: str) -> "jinja2.Template":
    """The template with what `transformers` gives it: loop controls, `generation`, tojson and three functions."""
    import jinja2.ext
    import jinja2.sandbox

    class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
        """With powers of small numbers only: one operation can't be interrupted."""

        intercepted_binops = frozenset(["**"])

        def call_binop(self, context, operator, left, right):
            if max(abs(left), abs(right)) > 1000:
                raise OverflowError("a power of a number above 1,000")
            return super().call_binop(context, operator, left, right)

    class Generation(jinja2.ext.Extension):
        """What stands between `generation` and `endgeneration` is the assistant's; here it is text like any other."""

        tags = frozenset(["generation"])

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    extensions = [Generation, jinja2.ext.loopcontrols]
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": _strftime_now, "dict": _make_dict}
    return environment.from_string(source)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Within this context, more than SECONDS raise a TimeoutError, and on Linux more than MEMORY a MemoryError.

    It is for the main thread. Where Python has no such limits, there are none.
    """

    def stop(signum: int, frame: object) -> NoReturn:
        raise TimeoutError(f"more than {SECONDS} seconds")

    if resource is None:
        yield
        return
    limit, most = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError, ValueError):  # not Linux
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        allowed = pages * resource.getpagesize() + MEMORY
        if limit == resource.RLIM_INFINITY or allowed < limit:
            resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _make_dict(*pairs: Any, **items: Any) -> dict:
    """`dict` without its methods, which a template has no use for."""
    return dict(*pairs, **items)
