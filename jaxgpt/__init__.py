"""jaxgpt: GPT-2 training in JAX and Flax. Start reading at training/loop.py; docs/design.md is the map.

In a notebook: `jaxgpt.load`, `jaxgpt.generate`, `jaxgpt.score`, `jaxgpt.load_tokenizer`, `jaxgpt.next_batch`. Each is
imported when it is first asked for, so that `import jaxgpt` brings no JAX.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "generate", "load", "load_tokenizer", "next_batch", "score"]

_MODULES = dict.fromkeys(("generate", "load", "load_tokenizer", "score"), "jaxgpt.api")
_MODULES |= {"next_batch": "jaxgpt.data.loader"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
