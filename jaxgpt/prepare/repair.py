"""Repair: what the first steps of cleaning change in a text."""

import re

from datatrove.pipeline.formatters import FTFYFormatter


class FixUnicode:
    """Repairs a text with ftfy, which undoes wrong encodings ("cafÃ©" becomes "café"), and normalizes it to NFC."""

    def __init__(self):
        options = {"remove_control_chars": False, "remove_terminal_escapes": False, "normalization": "NFC"}
        self.ftfy = FTFYFormatter(**options)

    def __call__(self, text: str) -> str:
        if text.isascii() and "&" not in text:  # no letter can be wrong, and there is no HTML entity
            return text
        return self.ftfy.format(text)


# Terminal escapes: colours and the like (ECMA-48, section 5.4); the characters of Unicode's categories Cc and Cs, but
# for tab and newline; and U+FEFF, which stands before a file and not in it.
CONTROLS = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")


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
MENU_ITEMS = {
    "home",
    "about",
    "about us",
    "contact",
    "contact us",
    "menu",
    "search",
    "log in",
    "login",
    "log out",
    "logout",
}
MENU_ITEMS |= {
    "sign in",
    "sign up",
    "register",
    "help",
    "faq",
    "blog",
    "news",
    "shop",
    "products",
    "services",
    "support",
}
MENU_ITEMS |= {
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
