"""How to chat, as flags."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from jaxgpt.commands.flags import positional, require_sampling
from jaxgpt.data.records import is_unicode
from jaxgpt.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """Talk to a model, turn by turn: type a message, and its answer appears while it is written.

    Ctrl-C stops an answer, Ctrl-D at the prompt ends the chat, /help lists the commands. Where the model's context is
    full, the oldest turns are left out of what it reads; the system prompt stays.
    """

    model: Annotated[str, *positional("MODEL")]
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    system: str = ""
    """The system prompt: what the model reads before the first message."""
    input: Path | None = None
    """Answer the messages of this JSONL file instead: {"content": ...} is the next message of the conversation,
    {"messages": [...]} begins another one. The answers go to stdout, as JSON lines."""
    max_new_tokens: int = 512
    """At most this many tokens an answer."""
    temperature: float = 0.8
    """Below 1, likely tokens become likelier still; 0 takes the likeliest always (greedy)."""
    top_k: int = 50
    """Sample among the k likeliest tokens; 0: among all."""
    top_p: float = 1.0
    """Sample among the fewest likeliest tokens that have this probability together; 1: among all."""
    seed: int = 0
    """Random seed: with the same seed, the same conversation gets the same answer."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        if not is_unicode(self.system):  # what Python makes of other bytes
            raise UsageError("--system is not UTF-8; set the terminal to UTF-8, or convert the text with iconv")
        require_sampling(self)
