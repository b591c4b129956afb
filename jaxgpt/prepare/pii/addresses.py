"""E-mail addresses and IP addresses in text."""

import ipaddress
import re

from jaxgpt.prepare.pii.numbers import Spans

# --- e-mail: searched by its "@", also as written in links (%40) and web pages (&#64;), and as "[at]" against robots
AT = re.compile(r"[@\uff20]|%40|&#64;|[\[({] ?(?:at|AT) ?[\])}]")
# The name, read backwards from the "@". Latin, Greek and Cyrillic letters, else any: Chinese has no blanks.
LOCAL = re.compile(r"[A-Za-z0-9\u00c0-\u052f._%+'&!#$*/=?^`{|}~-]{1,65}|\w{1,64}")
DOT = r"(?:\.| ?[\[({] ?(?:dot|DOT) ?[\])}] ?)"
# At most ten labels, and a last one of letters. Each label ends with its dot, so there is one way to match.
DOMAIN = re.compile(
    rf" ?((?:[^\W_](?:[\w-]{{0,61}}[^\W_])?{DOT}){{1,10}}"
    rf"(?:xn--[a-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?![A-Za-z0-9])|[^\W\d_a-zA-Z]{{2,24}}))"
)
VERSION = re.compile(r"v?\d+\.\d|\d+(?:\.\d+)?x\.")  # numpy@1.26.rc, logo@2x.png
# Last labels of no domain: file types, systemd units, and code.
NO_DOMAIN = {
    "png", "jpg", "jpeg", "gif", "svg", "webp", "js", "mjs", "cjs", "jsx", "ts", "tsx", "css", "scss", "less", "json",
    "yaml", "yml", "toml", "lock", "xml", "html", "htm", "php", "txt", "csv", "pdf", "exe", "dll", "whl", "gz", "tgz",
    "mp3", "mp4", "wav", "service", "socket", "timer", "target", "mount", "slice", "scope", "class", "proj", "self",
    "shape", "grad", "localhost", "jar",
}  # fmt: skip
LOGIN = re.compile(r"://(?:[^\s/:@]{0,64}:)?[^\s/@]{0,64}\Z")
SERVICE = ("git", "hg", "svn")  # git@github.com:owner/repository is a login


def detect_emails(text: str) -> Spans:
    for at in AT.finditer(text):
        stop = at.start() - (len(at.group()) > 1 and text[at.start() - 1 : at.start()] == " ")
        domain = DOMAIN.match(text, at.end())
        if not domain or (domain.group()[0] == " " and len(at.group()) < 4):
            continue
        local = LOCAL.match(text[max(0, stop - 66) : stop][::-1])
        name = local.group()[::-1] if local else ""
        if text[stop - 1 : stop] == '"' and 0 <= (quote := text.rfind('"', max(0, stop - 64), stop - 1)):
            start = quote  # "anna smith"@example.com
            if (
                "\n" in text[start:stop]
                or not text[start + 1 : stop - 1]
                or re.search(r"[\w]$", text[max(0, start - 1) : start])
            ):
                continue
        else:
            if at.group() == "%40":
                name = re.split("%[0-9A-Fa-f]{2}", name)[-1]
            # Separators of an address from the text before it, although the RFC allows them in a name.
            name = re.split(r"[=/?|{}`^~#*$!]|\.\.|(?<!\w)'", name)[-1].lstrip(".%+-'&")
            if text[domain.end() : domain.end() + 1] in ("'", "_"):
                name = re.split(text[domain.end()], name)[-1] if text[domain.end()] == "'" else name.lstrip("_")
            start = stop - len(name)
        if _is_email(text, start, stop, name, domain):
            yield "email", start, domain.end(1)


def _is_email(text: str, start: int, stop: int, name: str, domain: re.Match) -> bool:
    host, end = domain.group(1), domain.end(1)
    if start == stop or len(name) > 64 or name.endswith(".") or VERSION.match(host):
        return False
    last = re.split(r"\W+", host)[-1].lower()
    before = text[max(0, start - 2) : start]
    if last in NO_DOMAIN or before.endswith(("@", "\\@")) or "--" in host.replace("xn--", ""):
        return False
    # A login at a machine, ssh://anna@host or ://user:password@host, if it is no address itself: ://a@b.org:password@host.
    if LOGIN.search(text, max(0, start - 160), start) and not re.match(r":[^\s/@]{1,128}@", text[end : end + 130]):
        return False
    if name in SERVICE and text[end : end + 1] in (":", "/"):
        return False
    # a@b.dot(c) multiplies two matrices.
    return not (text[end : end + 1] == "(" and len(last) > 2 and last not in ("com", "org", "net", "edu", "gov"))


# --- IP
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")  # "this network": wildcards such as 0.0.0.255 too
DOTS = r"(?:\.|\[\.\]|\(\.\))"  # reports on attacks write "[.]"
IPV4 = re.compile(rf"(?<![\w.])\d{{1,3}}{DOTS}\d{{1,3}}{DOTS}\d{{1,3}}{DOTS}\d{{1,3}}(?!\w|\.\d)")
# Every IPv6 address has two colons with at most four hexadecimal digits between them; the search starts from these.
COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
LEFT = re.compile(r"[0-9A-Fa-f:]{1,40}")
RIGHT = re.compile(r"[0-9A-Fa-f:]*(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?")
ZONE = re.compile(r"%[A-Za-z][\w.]{0,15}")
VERSION_WORD = re.compile(
    r"(?:(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=V)))vers(?:ions?|i[oó]n|ione|[aã]o|ie|io)(?![A-Za-z])"  # FileVersion too
    # The words for a version, a section, a chapter, a paragraph, a figure: English, then other languages of Europe.
    r"|(?<![A-Za-z])(?:vers?|v|releases?|sections?|sec|sect|chapter|clauses?|para(?:graph)?s?|appendix"
    r"|article|fig(?:ure)?s?|table|rule|step|requirements?|req|heading|firmware|build|revision|rev|driver|changelog|upgraded?"
    r"|upgrading|downgraded?|bump(?:ed)?|updated? (?:to|from)|oid|sdk|tag|patch|kernel|see|item|exercise|theorem|annex"
    r"|wersj[aię]|verze|verzi[óa]|abschnitt\w*|kapit[eo]l\w*|ziffern?|absatz|punkt\w*|artikel\w*|anhang|abbildung|tabelle|chapitre"
    r"|alin[ée]a|annexe|tableau|secci[oó]n|apartado|cap[ií]tulo|art[ií]culo|anexo|tabla|sezione|capitolo|paragrafo|articolo"
    r"|allegato|tabella|sec[cç][aã]o|artigo|par[aá]grafo|rozdzia[łl]\w*|sekcj[aiię]|hoofdstuk|paragraaf|bijlage|avsnitt|afsnit"
    r"|luku|kohta|oddíl|kapitola)"
    r"|(?<!\w)(?:верси[яию]|раздел\w*|глав[аеы]|пункт\w*|стать[яиею])|版本|バージョン|第"
    r"|§+|==|>=|<=|~=|\^|~)"
    # Only numbers, signs and small words may stand between such a word and the number.
    r"(?:[^\w\n]|[\d]|(?<![A-Za-z])(?:numbers?|no|is|was|to|and|or|from|through|until|of|now|at|than|older|newer|v|only|ist|est|es|und|et|y|e|en|bis|von|nach|auf|ab|de|da|di|do|od|nr)(?![A-Za-z])){0,40}\Z",
    re.IGNORECASE,
)
VERSION_AFTER = re.compile(
    r"[ \t]?(?:\.(?:tar|zip|gz|tgz|whl|jar|exe|dll|deb|rpm|msi|apk|so)\b"
    r"|-?(?:alpha|beta|rc|snapshot|final|release|dev|stable)\d*\b"
    r"|(?:release|update|version|build|patch|firmware|hotfix|upgrade|installer|section)\b)|[+~]|-[a-z]",
    re.IGNORECASE,
)
# Verbs for software after a capitalized name: "Inkpot 4.2.10.3 fixes ..." is a version.
RELEASED = re.compile(
    r" (?:(?:fix|introduc)(?:es|ed)|adds|ships|deprecates|(?:is|was|has been|will be) (?:out|released)"
    r"|behebt|erscheint|erschien|ist erschienen|corrige|corregge|introduit|introduce|naprawia|verhelpt)(?!\w)"
)
PRODUCT = re.compile(
    r"(?<!\w)(?!(?i:ip|ipv4|host|server|client|node|router|gateway|proxy|peer|address|machine|switch|firewall)\b)"
    r"[A-Z][\w+#-]{1,40} \Z"
)
START = re.compile(r"(?:\A|\n|[.!?:] )[#*\s]*\Z")  # of a line or a sentence
HEADING = re.compile(r"\s+[A-Z][a-z]+")  # "3.2.1.4 Errors" at the start of a line


def detect_ips(text: str) -> Spans:
    for match in IPV4.finditer(text):
        address = _parse_address(re.sub(r"[^\d.]", "", match.group()))
        if address and _is_machine(address) and not _is_version(text, *match.span(), address):
            yield "ip", *match.span()
    last = 0
    for colons in COLONS.finditer(text):
        if colons.start() < last:
            continue
        left = LEFT.match(text[max(0, colons.start() - 40) : colons.start()][::-1])
        start = colons.start() - (left.end() if left else 0)
        end = RIGHT.match(text, colons.start(), colons.start() + 60).end()
        last = end
        if start and text[start - 1].isalnum():  # "IPv6:2001:..."
            start = text.find(":", start, end) + 1
        if text[start : start + 1] == ":" and text[start : start + 2] != "::":
            start += 1
        if text.endswith(":", start, end) and not text.endswith("::", start, end):
            end -= 1
        if (start and text[start - 1] in "_.") or text[end : end + 1].isalnum() or text[end : end + 1] == "_":
            continue
        address = _parse_address(text[start:end])
        if address and _is_machine(address) and _is_v6(text[start:end], address):
            zone = ZONE.match(text, end)
            yield "ip", start, zone.end() if zone else end


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it identifies a machine: not itself, none, all, a group, a network mask, a cloud's metadata server."""
    if address.is_loopback or address.is_unspecified or address.is_multicast or str(address) == "169.254.169.254":
        return False
    if address.version == 6:
        return True
    if address in THIS_NETWORK:
        return False
    bits = f"{int(address):032b}".lstrip("1")
    mask = address.packed[0] == 255 and "1" not in bits  # 255.255.240.0
    return not mask


def _is_version(text: str, start: int, end: int, address: ipaddress.IPv4Address) -> bool:
    before = text[max(0, start - 56) : start]
    if (re.search(r"[A-Za-z][-/_]\Z", before) and not before.endswith("//")) or VERSION_AFTER.match(text, end):
        return True
    if VERSION_WORD.search(before):
        return True
    if PRODUCT.search(before) and RELEASED.match(text, end):
        return True
    # A heading's numbers start from 1, and are small.
    small = max(address.packed) <= 40 and min(address.packed) > 0
    return small and bool(START.search(before)) and bool(HEADING.match(text, end))


def _is_v6(text: str, address: ipaddress.IPv6Address) -> bool:
    groups = text.split(":")
    if "::" not in text:  # eight pairs are a network card's number
        return not all(len(group) == 2 for group in groups)
    if address.ipv4_mapped or text.lower().startswith("64:ff9b::"):
        return True
    # a::b is a name in C++, 1::2 a slice in Python: the first group of an assigned address has four digits.
    return len(groups[0]) == 4 and any(c.isdigit() for c in text) and not address.is_reserved
