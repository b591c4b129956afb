"""Keys, tokens and passwords in text: by their documented forms, or as random-looking values of telling names.

The forms of most services are the rules of Kingfisher, MongoDB's scanner, which come with its package.
"""

import base64
import binascii
import json
import math
import re
from collections import Counter
from functools import cache
from typing import Any

from jaxgpt.prepare.pii.numbers import Spans
from jaxgpt.prepare.pii.words import piece_end

# Kingfisher's rules want a quote, a blank or the end after a key: it scans the text with these signs as blanks.
SIGNS = b",!?<>&|()[]{}#*\\"
AS_BLANKS = bytes.maketrans(SIGNS, b" " * len(SIGNS))
SCANNED = 16_384  # characters at a time, since its time grows faster than the length of a hostile text
URL_RULE = "betterleaks.generic-credential-uri"  # URL_PASSWORD knows placeholders

# Forms that Kingfisher does not take alone, or only at one length, with no letter or digit before or after.
# Quantifiers are possessive (++) or bounded: nothing is matched twice.
TOKEN = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"  # AWS
    r"|github_pat_[A-Za-z0-9_]{22,255}|ya29\.[\w-]{20,500}|GOCSPX-[\w-]{20,40}"  # GitHub, Google
    r"|sk-(?:ant|proj|svcacct|admin|or)-[\w-]{16,255}|sk-[A-Za-z0-9]{20,255}|hf_[A-Za-z0-9]{30,80}"
    r"|whsec_[A-Za-z0-9+/=]{20,80}|sq0[a-z]{3}-[\w-]{22,43}|key-[0-9a-f]{32}"  # Stripe, Square, Mailgun
    r"|\d{8,10}:AA[\w-]{33}"  # bots of Telegram
    r")(?![A-Za-z0-9])"
)
# Most texts contain none of these, and are not searched for the forms.
PREFIXES = (
    "AKIA",
    "ASIA",
    "ABIA",
    "ACCA",
    "github_pat_",
    "ya29.",
    "GOCSPX-",
    "sk-",
    "hf_",
    "whsec_",
    "sq0",
    "key-",
    ":AA",
)
SLACK_HOOK = re.compile(r"hooks\.slack\.com/services/(T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,30})")
JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,4000}\.[\w-]{4,16000}\.[\w-]{0,4000}")
# Up to the next run of dashes only, so that a text full of beginnings is read once.
PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----((?:[^-]|-(?!----))*+)(?:-----END [A-Z0-9 ]{3,60}-----)?"
)
PEM_BODY = re.compile(r"[A-Za-z0-9+/]{16}")
PEM_CUT = re.compile(r"[A-Za-z0-9+/=\s\\]*+")  # of a block with no end: what can be base64, and no more
# scheme://user:password@host; the password may hold "@" and ":". Bounded, since a text may be full of "://".
URL_PASSWORD = re.compile(r"://([^\s/:\"'<>]{0,128}):([^\s/\"'<>]{1,128})@(?=[\w\[])")
BEARER = re.compile(r"(?:Bearer|bearer|BEARER|Token|token) ([A-Za-z0-9._~+/-]{20,2000}={0,2})(?![\w=])")
BASIC = re.compile(r"[Bb]asic ([A-Za-z0-9+/]{8,200}={0,2})(?![\w=])")

# "=", ":", ":=", "=>" or "is", and a value that holds a digit or a sign: only then the name before is read.
ASSIGNED = re.compile(
    r"(?:[=:]>?|(?<= )is(?= ))[ \t]{0,4}(?:[rbuf]?([\"'`])(?=[^\"'`\n]{0,199}[\d!@#$%^&*])([^\"'`\n]{6,200})\1"
    r"|(?=[^\s\"'`]{0,199}[\d!@#$%^&*])([^\s\"'`,;<>(){}\[\]]{6,200}))"
)
FLAG = re.compile(r"--?(?:[a-z]{1,20}-){0,3}(?:password|passwd|token|secret|api-?key)[ =]([^\s\"'`<>(){}\[\]$]{8,200})")
NAME = re.compile(
    r"(?:(?P<password>pass(?:word|wd|phrase)|pwd|(?<![a-z])pass|passwort|kennwort|mot de passe|contrase[nñ]a)"
    r"|(?:api|access|auth|secret|private|client|encryption|signing|account|shared|master|service|storage|webhook|app|bot|session)"
    r"[_. -]?(?:key|secret|token)|(?:secret|access)[_ -]?access[_ -]?key|apikey|secret|token|credentials?|authorization"
    r"|(?:_|[a-z])key(?<=_key)|x-api-key)(?:[_ ]?(?:id|value|base64|\d))?[\"'\])`*]{0,3}[ \t]{0,4}\Z",
    re.IGNORECASE,
)
# Keys and tokens that find something and protect nothing: of a cache, a table, a page of results; and digests.
FINDS = re.compile(
    r"(?:cache|primary|foreign|partition|sort|shard|lookup|index|row|group|unique|idempotency|dedup\w*|hash|object|blob|bucket"
    r"|content|file|image|asset|artifact|build|routing|message|event|public|publishable|map|dict|s3|storage|page|cursor"
    r"|continuation|digest|etag|checksum|fingerprint|md5|sha\d*)[_. -]?(?:key|token)s?[\"'\])`*]{0,3}[ \t]{0,4}\Z",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(
    r"your|x{4}|\*{3}|\.{3}|change.?me|placeholder|dummy|insert|replace|redacted|<|>|\$\{|\{\{|%\(|\$\(|\benv\b|environ|getenv"
    r"|(?<![a-z])(?:example|sample|todo|fixme|none|null|undefined|fake|foo|bar|test.?key)(?![a-z])|^\$|^%.*%$|_here$",
    re.IGNORECASE,
)
WEAK = {"password", "pass", "passwd", "pwd", "secret", "pw", "passwort", "token", "user", "xxx", "username", "api_key"}


def _entropy(value: str) -> float:
    """Entropy of the value's characters, in bits per character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _looks_random(value: str) -> bool:
    """Whether it looks random: at least 16 characters, letters and digits or both cases, and many different ones."""
    if len(value) < 16 or PLACEHOLDER.search(value) or _entropy(value) < 3:
        return False
    has_digit = sum(c.isdigit() for c in value) > 1
    return any(c.isalpha() for c in value) and (has_digit or bool(re.search(r"[a-z][A-Z]+[a-z]+[A-Z].*[A-Z]", value)))


def _looks_like_password(value: str) -> bool:
    """Whether it has letters and digits, or letters and signs, and is no placeholder."""
    if PLACEHOLDER.search(value) or value.lower() in WEAK or len(set(value)) < 4 or " " in value:
        return False
    return any(c.isalpha() for c in value) and bool(re.search(r"\d|[!@#$%^&*?+~]", value))


def _is_jwt(token: str) -> bool:
    head = token.split(".")[0]
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, TypeError, RecursionError):
        return False


def _is_login(value: str) -> bool:
    try:
        return bool(re.fullmatch(rb"[\x20-\x7e]*:[\x20-\x7e]+", base64.b64decode(value, validate=True)))
    except (binascii.Error, ValueError):
        return False


@cache
def _scanner() -> Any:
    """Some 490 rules for services' keys, matched offline; made once per process, in half a second, with its cache."""
    import kingfisher_sdk

    return kingfisher_sdk.Scanner(kingfisher_sdk.Rules(), base64=False)


def _detect_keys(text: str) -> Spans:
    """Detect what Kingfisher's rules find, but for blocks of lines, which PEM and ASSIGNED read more closely."""
    start = 0
    while start < len(text):
        end = piece_end(text, start, SCANNED)
        data = text[start:end].encode(errors="surrogatepass").translate(AS_BLANKS).replace(b". ", b"  ")
        for finding in _scanner().scan(data.removesuffix(b".")):
            at, to = finding.location["start_offset"], finding.location["end_offset"]
            key = finding.secret.encode()
            # Offsets are those of what it decoded, which differs where it takes the bytes for UTF-16.
            if finding.visible and finding.rule_id != URL_RULE and len(key.split()) == 1 and data[at:to] == key:
                begin = start + len(data[:at].decode(errors="surrogatepass"))
                yield "secret", begin, begin + len(finding.secret)
        start = end


def detect_secrets(text: str) -> Spans:
    yield from _detect_keys(text)
    for match in TOKEN.finditer(text) if any(prefix in text for prefix in PREFIXES) else ():
        token = match.group()
        body = re.split(r"[-_]", token)[-1] if token[0] != "A" else token[4:]
        if (
            len(set(token)) > 9
            and not re.search("x{6}|X{6}|(?i:your)", token)
            and (re.search(r"\d", token) or _entropy(body) > 3.5)
        ):
            yield "secret", match.start(), match.end()
    for match in SLACK_HOOK.finditer(text):
        if not re.search("X{4}|0{6}", match.group(1)):
            yield "secret", *match.span(1)
    for match in JWT.finditer(text) if "eyJ" in text else ():
        if _is_jwt(match.group()):
            yield "secret", match.start(), match.end() - (match.group()[-1] == "-")
    for match in PEM.finditer(text):
        if PEM_BODY.search(match.group(1)):
            closed = match.end() > match.end(1)
            yield (
                "secret",
                match.start(),
                match.end() if closed else _strip_end(text, *PEM_CUT.match(text, match.start(1)).span()),
            )
    for match in URL_PASSWORD.finditer(text):
        value = match.group(2)
        if not PLACEHOLDER.search(value) and value.lower() not in WEAK:
            yield "secret", *match.span(2)
    for match in BEARER.finditer(text):
        if _looks_random(match.group(1)):
            yield "secret", *match.span(1)
    for match in BASIC.finditer(text):
        if _is_login(match.group(1)):
            yield "secret", *match.span(1)
    yield from _detect_assigned(text)


def _strip_end(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())


def _detect_assigned(text: str) -> Spans:
    for match in ASSIGNED.finditer(text):
        quoted, bare = match.group(2), match.group(3)
        name = NAME.search(text, max(0, match.start() - 48), match.start())
        if not name or FINDS.search(text, max(0, match.start() - 48), match.start()):
            continue
        start, end = match.span(2) if quoted else match.span(3)
        if bare:
            end = start + len(bare.rstrip(".:!?"))
            # A call, an index or an attribute is code, not a value.
            if (text[end : end + 1] and text[end] in "([{") or re.match(
                r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z", text[start:end]
            ):
                continue
        value = text[start:end]
        if value[:7].lower() in ("bearer ", "basic "):
            start, value = start + value.index(" ") + 1, value[value.index(" ") + 1 :]
        if (_looks_like_password if name.group("password") else _looks_random)(value) and "://" not in value:
            yield "secret", start, end
    for match in FLAG.finditer(text):
        if _looks_like_password(match.group(1)):
            yield "secret", *match.span(1)
