"""Pairs of sentences that differ in the group they name: CrowS-Pairs's format, StereoSet's and a plain one.

Nangia et al. (2020), "CrowS-Pairs", arXiv 2010.00133; Nadeem et al. (2021), "StereoSet", arXiv 2004.09456. No text of
theirs is here: the user brings the file.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgpt.data import records
from jaxgpt.errors import DataError
from jaxgpt.json_file import parse_json

MASK = "[MASK]"  # in a sentence that stands for two
FIELDS = (("more", "less"), ("sent_more", "sent_less"), ("stereotype", "anti-stereotype"), ("mask1", "mask2"))
GROUPS = ("group", "bias_type")
STEREOSET_PARTS = ("intrasentence", "intersentence")
STEREOSET_LABELS = ("stereotype", "anti-stereotype", "unrelated")
NEEDED = 'each needs "more" and "less", or CrowS-Pairs\'s "sent_more" and "sent_less"; "group" is optional'


@dataclasses.dataclass(frozen=True)
class BiasPair:
    """Two sentences, of which a biased model finds one likelier.

    Attributes:
      more, less: the sentence that says what a stereotype has, and the other one.
      group: what the bias is about, such as gender; "": not said.
      direction: CrowS-Pairs's stereo or antistereo: whether the sentence about the disadvantaged group demonstrates a
        stereotype or violates one. Or StereoSet's part, intrasentence or intersentence.
      unrelated: StereoSet's third sentence, which makes no sense; "": there is none.
      context: StereoSet's sentence that comes before each; "": there is none.
      target: StereoSet's word whose associations are measured.
    """

    more: str
    less: str
    group: str = ""
    direction: str = ""
    unrelated: str = ""
    context: str = ""
    target: str = ""


def read_bias_pairs(path: str | Path) -> list[BiasPair]:
    """The pairs of a .csv, .tsv or .jsonl file, one a record, or of StereoSet's .json.

    Raises:
      DataError: the file, or a record of it, is not that; or only some records have a third sentence.
    """
    path, content = str(path), records.read_content(path)
    if path.lower().endswith(".json"):
        pairs = [*_parse_stereoset(path, content)]
    elif path.lower().endswith((".csv", ".tsv", *records.JSON_LINES)):
        parsed = records.parse_records(path, content)
        pairs = [_parse_pair(f"{path}, line {line}", record) for line, record in parsed]
    else:
        raise DataError(f"{path}: pairs are in a .csv, .tsv or .jsonl file, or in StereoSet's .json; convert it")
    if len({bool(pair.unrelated) for pair in pairs}) > 1:
        raise DataError(f"{path}: some records have an unrelated sentence, and some have none; give two files")
    return pairs


def _parse_pair(where: str, record: dict[str, Any]) -> BiasPair:
    names = next((each for each in FIELDS if set(each) <= record.keys()), None)
    if names is None:
        raise DataError(f"{where}: no pair of sentences; {NEEDED}")
    more, less = (records.require_text(where, record, name) for name in names)
    if names == ("mask1", "mask2"):
        sentence = records.require_text(where, record, "sentence")
        if MASK not in sentence:
            raise DataError(f"{where}: the sentence has no {MASK}, where mask1 and mask2 belong; mend it")
        more, less = (sentence.replace(MASK, each) for each in (more, less))
    group = _optional(where, record, *GROUPS)
    if names != ("stereotype", "anti-stereotype"):
        return BiasPair(more, less, group, _optional(where, record, "stereo_antistereo"))
    part = _optional(where, record, "type")
    unrelated = records.require_text(where, record, "unrelated")
    # The three sentences of the intrasentence part are the context itself, filled in.
    context = records.require_text(where, record, "context") if part == "intersentence" else ""
    target = _optional(where, record, "target")
    return BiasPair(more, less, group, part, unrelated, context, target)


def _parse_stereoset(path: str, content: bytes) -> Iterator[BiasPair]:
    """StereoSet's own file: {"data": {"intrasentence": [{"target", "bias_type", "context", "sentences"}], ...}}."""
    try:
        parts = parse_json(content)["data"]
        items = [(part, number, item) for part in STEREOSET_PARTS for number, item in enumerate(parts.get(part, []), 1)]
    except (ValueError, LookupError, TypeError, AttributeError):
        lists = " and ".join(STEREOSET_PARTS)
        raise DataError(f'{path}: is not StereoSet\'s JSON, "data" with the lists {lists}; give that file') from None
    if not items:
        raise DataError(f"{path}: no item in it; give StereoSet's file")
    for part, number, item in items:
        where = f"{path}, {part} {number}"
        try:
            sentences = {each["gold_label"]: each["sentence"] for each in item["sentences"]}
            record = {name: item[name] for name in ("target", "bias_type", "context")}
            record |= {name: sentences[name] for name in STEREOSET_LABELS}
        except (LookupError, TypeError):
            labels = ", ".join(STEREOSET_LABELS)
            raise DataError(
                f"{where}: needs target, bias_type, context, and sentences with the gold_label {labels}; mend it"
            ) from None
        yield _parse_pair(where, record | {"type": part})


def _optional(where: str, record: dict[str, Any], *names: str) -> str:
    """The first of these fields that a record has; "" if it has none, or an empty one."""
    name = next((each for each in names if record.get(each) is not None), None)
    return "" if name is None else records.require_text(where, record, name, may_be_empty=True)
