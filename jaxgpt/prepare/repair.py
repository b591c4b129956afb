"""Repair: what the first steps of cleaning change in a text."""

import contextlib
import functools
import re
import unicodedata

from ftfy import chardata, fixes
from ftfy.badness import is_bad

from jaxgpt.prepare.documents import DOCUMENT_CHARS, split_long_text
from jaxgpt.prepare.words import sort_marks

# What is in every line that ftfy changes: an entity, half of a surrogate pair, a letter that is wrong by itself, or two
# beyond ASCII side by side: not both Greek or Cyrillic, none of them Chinese and the like, a dash or a curly quote.
PAIRED = "\x80-\x9f\xa1-\xac\xae-\xb6\xb8-\u0491\u2016-\u2018\u201a-\u2025\u2027-\u2e7f\uf8ff-\uffff"
ALONE = "\x80-\x9fÂÃÎÐØÙŒœ\ud800-\udfff"
SUSPECT = re.compile(
    f"[&{PAIRED}{ALONE}](?:(?<=&)#?[0-9A-Za-z]{{1,24}};|(?<=[{ALONE}])"
    f"|(?<!&)[{PAIRED}](?<![\u0386-\u0401\u0403-\u045f]{{2}}))"
)
LINES = re.compile("[^\n]*+\n?")
LINE_CHARS = 100_000  # of a line, longer ones are repaired in parts: ftfy's codec copies the rest at some characters
TIMES = 16  # that a line is repaired
LONGEST = DOCUMENT_CHARS * 3 // 2  # of a repaired text: NFC makes three characters of some, such as U+1D160


def fix_unicode(text: str) -> str:
    """Repair a text as ftfy does, which undoes wrong encodings ("cafÃ©" becomes "café"), and normalize it to NFC.

    ftfy repairs a line until nothing changes any more, and so does this, but at most TIMES times: it would look at all
    of "&amp;amp;amp;..." once for each of them. A text that would get longer than LONGEST stays as it is.
    """
    if (text.isascii() and "&" not in text) or _is_right(text):
        return text
    lines, unescape = [], True
    for line in LINES.findall(text):
        unescape = unescape and "<" not in line  # in HTML, &lt; is no tag
        if not _is_right(line):
            line = "".join(_repair(part, unescape) for part in split_long_text(line, LINE_CHARS))
        lines.append(line)
    repaired = _normalize("".join(lines))
    return repaired if len(repaired) <= max(LONGEST, len(text)) else text


def _is_right(text: str) -> bool:
    return not SUSPECT.search(text) and unicodedata.is_normalized("NFC", text)


def _normalize(text: str) -> str:
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", sort_marks(text))


def _repair(line: str, unescape: bool) -> str:
    """ftfy.fix_text of a line, at most TIMES times."""
    for _ in range(TIMES):
        before = line
        if unescape:
            line = fixes.unescape_html(line)
        line = _normalize(fixes.fix_surrogates(fixes.fix_c1_controls(_decode(line, TIMES // 2))))
        if line == before:
            break
    return line


def _decode(text: str, times: int) -> str:
    """ftfy.fix_encoding, at most so many times: of all of it, else of what looks like UTF-8 in it, else of bytes."""

    def decode_part(match: re.Match) -> str:
        return _decode(match[0], times // 2) if len(match[0]) < len(text) else match[0]

    for _ in range(times):
        if not is_bad(text):
            break
        before = text
        text = _decode_whole(text) or chardata.UTF8_DETECTOR_RE.sub(decode_part, text)
        if text == before:
            text = fixes.fix_c1_controls(text)
        if text == before:
            break
    return text


def _decode_whole(text: str) -> str | None:
    """What the text is if all of it is UTF-8 that was taken for another encoding."""
    for encoding in filter(functools.partial(chardata.possible_encoding, text), chardata.CHARMAP_ENCODINGS):
        content = text.encode(encoding)
        if encoding != "macroman" and chardata.ALTERED_UTF8_RE.search(content):
            content = fixes.restore_byte_a0(content)
        if encoding.startswith("sloppy"):
            content = fixes.replace_lossy_sequences(content)
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode("utf-8-variants" if b"\xed" in content or b"\xc0" in content else "utf-8")
    return None


# Unicode's categories Cc and Cs, but for tab and newline; and U+FEFF, which stands before a file and not in it. What
# follows the character ESC is part of a terminal escape: colours and the like (ECMA-48, section 5.4).
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff](?:(?<=\x1b)\\[[0-?]*+[ -/]*+[@-~])?")


def remove_controls(text: str) -> str:
    """Remove terminal escapes and control characters; CR LF and CR become a newline."""
    return CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


# Lines that many pages share. They are short: a sentence about cookies stays.
BOILERPLATE = re.compile(
    r"""
    ^(we|this\ (web)?site|our\ (web)?site)\ uses?\ cookies | ^(accept|reject|manage)\ (all\ )?cookies
    | ^(cookie|privacy|terms)\b.*\b(policy|settings|preferences|terms|conditions|notice|use|service)\W*$
    | all\ rights\ reserved\W*$ | ^(copyright|©|\(c\))\ .*\d{4} | ^powered\ by\ \S++\W*$
    | ^(click|tap)\ here\b | ^(read|learn|show|load|view)\ (more|all)\W*$ | ^continue\ reading
    | ^skip\ to\ (main\ )?content
    | ^(subscribe|sign\ up)\b.*\b(newsletter|updates|now|today)\b | ^subscribe\W*$ | ^unsubscribe
    | ^(share|follow|tweet|like|find)\b.*\b(facebook|twitter|linkedin|instagram|pinterest|whatsapp|reddit|x)\W*$
    | ^(leave|post|add)\ a\ (comment|reply)\W*$ | ^advertisements?\W*$ | ^toggle\ \w+\W*$ | ^search\b.{0,20}(\.\.\.|…)$
    | ^(please\ )?(enable|turn\ on)\ javascript | javascript\ (is\ )?(disabled|required)
    """,
    re.VERBOSE | re.IGNORECASE,
)
BOILERPLATE_WORDS = 16
MENU_SEPARATOR = re.compile(r"\s*[|>»/•·]\s*|\s{2,}|\t")  # between the items of a menu
MENU = (
    "home|about|about us|contact|contact us|menu|search|log in|login|log out|logout|sign in|sign up|register|"
    "help|faq|blog|news|shop|products|services|support|archive|account|my account|cart|privacy|privacy policy|"
    "terms|terms of service|sitemap"
)
MENU_ITEMS = set(MENU.split("|"))


def remove_boilerplate(text: str) -> str:
    """Remove boilerplate lines: of at most 16 words in a usual form, or a menu."""
    lines = text.split("\n")
    kept = [line for line in lines if not _is_boilerplate(line.strip())]
    return text if len(kept) == len(lines) else "\n".join(kept)


def _is_boilerplate(line: str) -> bool:
    if not line or len(line.split()) > BOILERPLATE_WORDS:
        return False
    items = MENU_SEPARATOR.split(line.lower())
    is_menu = len(items) > 1 and 2 * sum(item in MENU_ITEMS for item in items) > len(items)
    return is_menu or bool(BOILERPLATE.search(line))
