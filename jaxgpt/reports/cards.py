"""A data card: what a prepared folder records of itself, as the Hugging Face hub's cards and datasheets have it.

Headings are those of the hub's template, which follows Gebru et al. (2018), "Datasheets for Datasets". What nobody has
recorded is said to be so, and no document is quoted.
"""

import re
import shlex
from pathlib import Path
from typing import Any

from jaxgpt.data import shards
from jaxgpt.errors import UsageError
from jaxgpt.reports.markdown import (
    escape_markdown,
    join_parts,
    render_facts,
    render_front_matter,
    render_list,
    render_rows,
    render_section,
)

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
SIZES += ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (float("inf"), "n>1B"))
CLEANING = ("clean", "language", "min_chars", "max_chars", "decontaminate", "dedup", "against", "val", "seed")
PII = {"off": "not looked for", "report": "counted, and left as it was", "replace": "replaced by its kind"}
PII |= {"drop": "dropped, with the documents that have it"}
INTENDED = "Nobody has recorded what this is meant for, or not meant for: add it here."
MISSED = (
    "Personal data is found by rules, and rules miss some. A model learns less of a language, or of a group of people, "
    "that is rare in its text; the shares of such groups were not measured."
)


def require_licence(licence: str | None) -> None:
    """Refuse what is no name of a licence as the hub has them."""
    if licence is not None and not LICENCE.fullmatch(licence):
        raise UsageError(f"--license {licence}: give its name on the hub, such as mit, cc-by-4.0, or other")


def render_data_card(folder: Path, meta: dict[str, Any], report: dict[str, Any], licence: str | None = None) -> str:
    """The data card of a prepared folder.

    Args:
      meta: the content of meta.json, and
      report: of report.json, both checked by the commands that read them.
      licence: by its name on the hub; None: it is not recorded.

    Raises:
      DataError: a shard or the tokenizer is missing or corrupt.
    """
    name, flags = folder.resolve().name, read_object(meta, "flags")
    documents = sum(split["documents"] for split in meta["splits"].values())
    front = {"license": licence, "language": flags.get("language"), "pretty_name": name}
    front |= {"size_categories": [next(size for most, size in SIZES if documents < most)], "tags": ["jaxgpt"]}
    details = {"Curated by": None, "Language(s)": flags.get("language"), "License": licence}
    parts = [
        render_front_matter(front),
        f"# Data card of {escape_markdown(name)}",
        "Rendered by `jaxgpt inspect --card` from what the folder records of itself. It quotes no document.",
        render_section(2, "Dataset Details", render_list(details)),
        render_section(2, "Uses", INTENDED),
        render_section(2, "Dataset Structure", *_describe_structure(folder, meta)),
        "## Dataset Creation",
        render_section(3, "Curation Rationale"),
        render_section(3, "Source Data", *_describe_source(flags, report)),
        render_section(3, "Data Collection and Processing", *_describe_steps(flags, report)),
        render_section(3, "Personal and Sensitive Information", *_describe_personal(flags, report)),
        render_section(3, "Erased Afterwards", _describe_erasures(meta)),
        render_section(2, "Bias, Risks, and Limitations", MISSED),
        render_section(2, "How It Was Made", *_describe_command(folder, meta)),
    ]
    return join_parts(parts)


def read_object(content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def _describe_structure(folder: Path, meta: dict[str, Any]) -> list[str]:
    rows, tokenizer = [], shards.read_tokenizer(folder)
    for name, split in meta["splits"].items():
        fingerprint = shards.open_split(folder, name, tokenizer).fingerprint if split["tokens"] else "-"
        rows.append([name, split["documents"], split["tokens"], split["text_bytes"], len(split["shards"]), fingerprint])
    tokenizer = meta["tokenizer"]
    facts = {"tokenizer": tokenizer["name"], "SHA-256 of the tokenizer": tokenizer["sha256"]}
    columns = ("split", "documents", "tokens", "bytes of text", "shards", "SHA-256 of its shards")
    return [render_rows(columns, rows), render_facts(facts)]


def _describe_source(flags: dict[str, Any], report: dict[str, Any]) -> list[str]:
    facts = {"input": flags.get("inputs"), "files taken": flags.get("files") or "all of known kinds"}
    facts |= {"bytes read": report["bytes"], "records read": report["records"], "broken": report["broken"]}
    return [render_facts(facts), "Who produced the texts, when and how: not recorded."]


def _describe_steps(flags: dict[str, Any], report: dict[str, Any]) -> list[str]:
    rows = []
    for step in report["steps"]:
        dropped = step["dropped"]
        reasons = [f"{reason}: {number:,}" for reason, number in dropped.items()]
        rows.append([step["name"], step["changed"], sum(dropped.values()), reasons or "-"])
    settings = {f"--{name.replace('_', '-')}": flags[name] or "none" for name in CLEANING if name in flags}
    kept = {f"{name} kept": report["kept"][name] for name in ("documents", "tokens")}
    return [render_rows(("step", "changed", "dropped", "why"), rows), render_facts(settings | kept)]


def _describe_personal(flags: dict[str, Any], report: dict[str, Any]) -> list[str]:
    facts = {"personal data": PII.get(str(flags.get("pii"))), "names found by": flags.get("pii_names") or "no model"}
    facts |= {f"found: {kind}": number for kind, number in report["pii"].items()}
    return [render_facts(facts | {"made-up secrets planted (canaries)": report["canaries"]})]


def _describe_erasures(meta: dict[str, Any]) -> str:
    """What `jaxgpt erase` has taken out of the shards, by split."""
    rows = []
    for name, split in meta["splits"].items():
        count = sum(shard["tokens"] for shard in split["shards"])
        erasures = shards.parse_erasures(shards.META, meta.get(shards.ERASURES, []), name, count)
        ranges = [tuple(pair) for each in erasures for pair in each.ranges.tolist()]
        if ranges:
            rows.append([name, len(erasures), len(ranges), sum(end - first for first, end in ranges)])
    return render_rows(("split", "erasures", "ranges", "tokens"), rows) if rows else "Nothing."


def _describe_command(folder: Path, meta: dict[str, Any]) -> list[str]:
    again = f"jaxgpt inspect {shlex.quote(str(folder))} --card"
    versions = {f"version of {name}": version for name, version in read_object(meta, "versions").items()}
    facts = {"command": meta.get("command"), "SHA-256 of the input's names, sizes and times": meta.get("inputs")}
    return [render_facts(facts | (versions or {"versions": None}) | {"this card": again})]
