"""How to serve a model, as flags."""

import dataclasses
import re
from typing import Annotated, Literal

from jaxgpt.commands.flags import positional
from jaxgpt.errors import UsageError, require
from jaxgpt.serving.config import ServerConfig

KEY = re.compile(r"[A-Za-z0-9._~-]{8,200}")  # as it is in a URL and in a header
NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
KEY_VARIABLE = "JAXGPT_API_KEY"


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Serve a model over HTTP by OpenAI's API, with a chat page.

    Requests that come together are decoded together, and each gets the text that it would get alone.
    """

    model: Annotated[str, *positional("MODEL")]
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    server: ServerConfig = dataclasses.field(default_factory=ServerConfig)
    api_key: str = ""
    """The key that each request must have, of 8 to 200 letters, digits and . _ ~ -; by default that of the environment
    variable JAXGPT_API_KEY, which other users of the machine can't list, or a random one, which is printed."""
    served_name: str = ""
    """What clients call the model; by default the last part of MODEL."""
    batch_size: int = 8
    """The most texts that are written at a time."""
    max_waiting: int = 64
    """The most texts that wait for their turn; more are refused, with the status 429."""
    max_new_tokens: int = 1024
    """The most tokens of a text. Fewer where the context ends."""
    timeout: float = 60.0
    """Seconds that a text may take, with the time that it waits; then it is cut, or, where it is empty, refused."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        require(1 <= self.batch_size <= 4096, "batch_size", self.batch_size, "from 1 to 4,096")
        require(0 <= self.max_waiting <= 100_000, "max_waiting", self.max_waiting, "from 0 to 100,000")
        require(1 <= self.max_new_tokens <= 10**6, "max_new_tokens", self.max_new_tokens, "from 1 to 1,000,000")
        require(0 < self.timeout <= 86_400, "timeout", self.timeout, "above 0, and at most 86,400 seconds")
        if self.api_key:
            require_key("--api-key", self.api_key)
        if self.served_name and not NAME.fullmatch(self.served_name):
            raise UsageError(f"--served-name {self.served_name!r} must be 1 to 100 letters, digits and . _ : -")


def require_key(source: str, key: str) -> None:
    """Raise UsageError, which does not tell it, for a key that can't be one."""
    if not KEY.fullmatch(key):
        raise UsageError(f"{source} must be 8 to 200 letters, digits and . _ ~ -; leave it out for a random one")
