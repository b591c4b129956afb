"""OpenAI's four models on huggingface.co: downloaded once, and checked."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from jaxgpt import console
from jaxgpt.errors import CheckpointError
from jaxgpt.models.configs import SIZES, GPT2Config
from jaxgpt.progress_bar import stage

# Each at one commit, so that a name means the same weights for ever.
HUB = {
    "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    "gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
}
OWNER = "openai-community"


def cached_models() -> list[str]:
    """Which of OpenAI's models are in Hugging Face's cache."""
    import huggingface_hub

    return [name for name in HUB if isinstance(huggingface_hub.try_to_load_from_cache(**_hub_file(name)), str)]


def _hub_file(name: str) -> dict[str, str]:
    return {"repo_id": f"{OWNER}/{name}", "filename": "model.safetensors", "revision": HUB[name]}


def download(name: str) -> Path:
    """The folder of one of OpenAI's models in Hugging Face's cache; an interrupted download resumes."""
    import huggingface_hub
    import huggingface_hub.errors

    where = _hub_file(name)
    try:
        return Path(huggingface_hub.hf_hub_download(**where, local_files_only=True)).parent
    except huggingface_hub.errors.LocalEntryNotFoundError:
        hub = huggingface_hub.constants.ENDPOINT
        console.note(f"fetching {OWNER}/{name} from {hub}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it retries, and would log each time
    try:
        metadata = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**where), retry_on_errors=True)
        max_size = _largest_file(GPT2Config(**SIZES[name]))
        if not 0 < (metadata.size or 0) <= max_size:
            raise ValueError(f"it offers a file of {metadata.size} bytes, and the model takes up to {max_size}")
        with stage(f"fetching {OWNER}/{name}", metadata.size, unit="MB") as advance:

            class Counter(huggingface_hub.utils.tqdm):  # which draws nothing
                def __init__(self, *rest: Any, **more: Any):
                    super().__init__(*rest, **more | {"disable": True})
                    advance(more.get("initial") or 0)  # of an earlier start

                def update(self, n: float = 1) -> None:
                    advance(n)

            path = Path(huggingface_hub.hf_hub_download(**where, tqdm_class=Counter))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != metadata.etag:  # a large file's ETag is its SHA-256
            path.resolve().unlink()  # else it would be taken for complete the next time
            path.unlink(missing_ok=True)
            raise ValueError(f"the download has the SHA-256 {digest}, and {metadata.etag} was announced")
        return path.parent
    except Exception as error:  # of the network, the hub, the disk: OSError, HfHubHTTPError, httpx's and others
        reason = str(error.__cause__ or error).split(". ")[0][:200]
        raise CheckpointError(
            f"{name} could not be fetched ({reason}); try again, the download resumes where it stopped; "
            "or bring its config.json and model.safetensors here by other means, and name their folder"
        ) from None


def _largest_file(config: GPT2Config) -> int:
    """Bytes of a model's float32 weights, with the masks that old versions of transformers kept, and a header."""
    L, T, C = config.n_layer, config.block_size, config.n_embd
    return 4 * ((config.vocab_size + T + 2) * C + L * (12 * C**2 + 13 * C + T**2)) + 2**20
