"""jaxgpt as a model of EleutherAI's lm-evaluation-harness (Gao et al.), whose name for it is "jaxgpt".

It answers each request as the harness's "hf" model does on the exported weights, and is the harness's one door.
"""

import contextlib
import io
import itertools
import json
import logging
import os
import random
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, JaxgptError, UsageError, require
from jaxgpt.inference.generate import stream
from jaxgpt.inference.placement import select_compute
from jaxgpt.inference.sampling import SamplingParams, make_sampling_params, prompt_keys
from jaxgpt.inference.score import score
from jaxgpt.models.base import Model
from jaxgpt.progress_bar import stage
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import require_text_model, resolve_weights

try:
    import lm_eval
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.models.utils import (
        Collator,
        handle_stop_sequences,
        normalize_gen_kwargs,
        postprocess_generated_text,
    )
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import get_rolling_token_windows, handle_non_serializable, make_disjoint_window
except ImportError as error:
    raise UsageError(f"the harness is not installed ({error}): pip install 'lm-eval>=0.4.13'") from None

STOP_CHECK_TOKENS = 16  # new tokens between two looks for stop strings
TOP_K = 50  # of sampling where a task does not say: the default of `transformers`
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0}  # what a task may ask for because it changes nothing


@register_model("jaxgpt")
class JaxgptLM(TemplateLM):
    """A model for the harness.

    Args:
      pretrained: a model, or its name: a run folder, a folder in Hugging Face's layout, gpt2, ...
      batch_size: sequences at a time.
      device: where to load a model that is named: auto, gpu or cpu.
      dtype: and in which compute dtype: auto, float32 or bfloat16.
      seed: of sampling, for tasks that ask for it.
      tokenizer: of a model that is given; a named one has its own.
    """

    def __init__(
        self,
        pretrained: str | Path | Model,
        batch_size: int | str = 8,
        device: str = "auto",
        dtype: str = "auto",
        seed: int = 0,
        max_batch_size: int | None = None,  # the harness gives it to every model; here the batch is what was asked for
        tokenizer: Tokenizer = GPT2_TOKENIZER,
    ):
        super().__init__()
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise UsageError(f"batch_size {batch_size}: must be a whole number, at least 1")
        require(0 <= seed < 2**31, "seed", seed, "from 0 to 2**31 - 1")
        self.batch_size, self._seed = int(batch_size), seed
        self.model, self._tokenizer = pretrained, tokenizer
        if isinstance(pretrained, str | Path):
            self.model, self._tokenizer = _load(str(pretrained), device, dtype)

    @property
    def max_length(self) -> int:
        return self.model.config.block_size

    @property
    def max_gen_toks(self) -> int:
        return 256

    @property
    def eot_token_id(self) -> int:
        return self._tokenizer.require_end("tasks of the harness")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._tokenizer.encode_prompt(string)

    def loglikelihood(self, requests: list, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: Sequence[tuple], **_: Any) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        with stage("log likelihoods", len(pairs)) as advance:
            scores = score(self.model, pairs, self.batch_size, advance)
        return [tuple(each) for each in scores]

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = True) -> list[float]:
        windows = []  # each token of a text is predicted once, with as much in front of it as goes into the model
        for request in requests:
            ids = self.tok_encode(request.args[0])
            cut = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            windows.append([make_disjoint_window(window) for window in cut])
        flat = list(itertools.chain.from_iterable(windows))
        with stage("windows of texts", len(flat)) as advance:
            scores = iter(score(self.model, flat, self.batch_size, advance))
        return [sum(next(scores).log_likelihood for _ in each) for each in windows]

    def generate_until(self, requests: list, disable_tqdm: bool = True) -> list[str]:
        prompts = [self.tok_encode(request.args[0]) for request in requests]
        keys = prompt_keys(jax.random.key(self._seed), prompts)
        order = Collator(  # the first has most tokens; only equal kwargs share a batch
            [(*request.args, key) for request, key in zip(requests, keys, strict=True)],
            sort_fn=lambda args: (-len(self.tok_encode(args[0])), args[0]),
            group_by="gen_kwargs",
            group_fn=lambda args: args[1],
        )
        texts = []
        with stage("texts to write", len(requests)) as advance:
            for batch in order.get_batched(n=self.batch_size):
                contexts, (gen_kwargs, *_), batch_keys = zip(*batch, strict=True)
                texts += self._generate_batch(contexts, gen_kwargs, np.stack(batch_keys))
                advance(len(batch))
        return order.get_original(texts)

    def _generate_batch(self, contexts: Sequence[str], gen_kwargs: dict[str, Any], keys: np.ndarray) -> list[str]:
        """What follows the contexts, up to the first of their stop strings; `keys` are those of prompt_keys."""
        kwargs, decode = normalize_gen_kwargs(gen_kwargs, self.max_gen_toks), self._tokenizer.decode
        until = handle_stop_sequences(kwargs.pop("until"), eos=self._tokenizer.decode([self.eot_token_id]))
        max_new_tokens = kwargs.pop("max_gen_toks")
        if not 1 <= max_new_tokens < self.max_length:
            raise UsageError(
                f"a task asks for {max_new_tokens:,} new tokens, and the model's context is {self.max_length:,}; "
                "set its max_gen_toks to fewer"
            )
        sampling = self._sampling_params(kwargs)
        room = self.max_length - max_new_tokens
        prompts = [self.tok_encode(context)[-room:] or [self.prefix_token_id] for context in contexts]
        texts: list[list[int]] = [[] for _ in prompts]
        num_new = 0
        padding = self.batch_size - len(prompts)  # every batch has the same size, and so the same program
        prompts, keys = prompts + prompts[-1:] * padding, np.pad(keys, ((0, padding), (0, 0)), "edge")
        for chunk in stream(self.model, prompts, max_new_tokens, sampling, keys, STOP_CHECK_TOKENS):
            for text, tokens in zip(texts, chunk.tokens, strict=False):
                text += tokens
            num_new = min(num_new + STOP_CHECK_TOKENS, max_new_tokens)
            if all(len(text) < num_new or any(stop in decode(text) for stop in until if stop) for text in texts):
                break
        return [postprocess_generated_text(decode(text), until, None) for text in texts]

    def _sampling_params(self, kwargs: dict[str, Any]) -> SamplingParams:
        do_sample = kwargs.pop("do_sample", False)
        temperature, top_k, top_p = (kwargs.pop(name, None) for name in ("temperature", "top_k", "top_p"))
        unsupported = sorted(name for name, value in kwargs.items() if value is not None and NEUTRAL.get(name) != value)
        if unsupported:
            raise UsageError(
                f"a task asks for {unsupported[0]} in its generation_kwargs; jaxgpt knows "
                "do_sample, temperature, top_k, top_p, until and max_gen_toks"
            )
        if not do_sample:
            return make_sampling_params(temperature=0, stop=self.eot_token_id)
        top_k, top_p = TOP_K if top_k is None else int(top_k), 1.0 if top_p is None else float(top_p)
        return make_sampling_params(float(temperature or 0), top_k, top_p, stop=self.eot_token_id)


def _load(name: str, where: str, dtype: str) -> tuple[Model, Tokenizer]:
    where = "gpu" if where.startswith("cuda") else where  # the harness's word
    source = resolve_weights(name)
    require_text_model(source)
    return load(source, **select_compute(source.config, where, dtype)[0]), source.tokenizer


# ---- Tasks


def load_tasks(names: list[str], include_path: Path | None, num_fewshot: int | None) -> dict[str, Any]:
    """The harness's tasks of these names; data that is not here is downloaded.

    Args:
      include_path: a folder of more tasks, which take precedence over the harness's.
      num_fewshot: solved examples before each item, for tasks that do not insist on none; None: as each task has it.

    Raises:
      UsageError: there is no task of a name, or its description is wrong.
      DataError: its data can't be had.
    """
    if include_path:  # the harness's thousands take seconds to list, and are seldom needed beside a user's
        with contextlib.suppress(UsageError):
            return _load_tasks(names, include_path, num_fewshot, include_defaults=False)
    return _load_tasks(names, include_path, num_fewshot, include_defaults=True)


def _load_tasks(
    names: list[str], include_path: Path | None, num_fewshot: int | None, include_defaults: bool
) -> dict[str, Any]:
    with _quiet():
        tasks = TaskManager(include_path=include_path and str(include_path), include_defaults=include_defaults)
    unknown = [name for name in names if name not in tasks.all_tasks]
    if unknown:
        where = f" nor in {include_path}" if include_path else ""
        raise UsageError(f"--tasks {', '.join(unknown)}: no such task in lm-eval {lm_eval.__version__}{where}")
    try:
        with _quiet():
            loaded = tasks.load(names)
    except OSError as error:  # datasets' errors of the network, the hub and files are all of this kind
        raise DataError(
            f"--tasks {','.join(names)}: the data can't be had ({_first_line(error)}); "
            "check the network, or the task's files"
        ) from None
    except Exception as error:
        raise UsageError(f"--tasks {','.join(names)}: a task can't be made: {_first_line(error)}") from None
    for task in loaded["tasks"].values():  # as the harness's simple_evaluate does
        task_shots = task.get_config("num_fewshot")
        if task_shots != 0:
            task.set_config("num_fewshot", num_fewshot if num_fewshot is not None else task_shots or 0)
        task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    return loaded


def evaluate(lm: JaxgptLM, tasks: dict[str, Any], limit: int | None = None) -> dict[str, Any]:
    """The harness's results, fit for JSON: each task's metrics, their standard errors, versions and settings.

    They are those of `lm_eval.simple_evaluate`, without its look at the machine and at git.

    Raises:
      DataError: the harness can't do a task.
    """
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    try:
        with _quiet():
            results = lm_eval.evaluate(lm, tasks, limit=limit, log_samples=False)
    except (JaxgptError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} ({Path(last.filename).name}, line {last.lineno})"
        if isinstance(error, ImportError | OSError):  # which quote no document
            reason = _first_line(error)
        raise DataError(
            f"--tasks {','.join(tasks['tasks'])}: the harness stopped: {reason}; see whether the task fits its data"
        ) from None
    results["lm_eval_version"] = lm_eval.__version__
    return json.loads(json.dumps(results, default=handle_non_serializable))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The harness and what it uses print, warn, log and draw bars; what matters of that are its results and errors."""
    disabled, pool = logging.root.manager.disable, os.environ.get("DISABLE_MULTIPROC")
    logging.disable(logging.CRITICAL)
    os.environ["DISABLE_MULTIPROC"] = "1"  # else it would fork for standard errors, which JAX's threads don't survive
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        if pool is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = pool
