"""The context of a number: further digits, and words for a phone, a card, a national id or another number."""

import re
from collections.abc import Iterator
from itertools import pairwise


def _match_capitals(name: str) -> str:
    """A pattern for SIN and the like: small letters make another word, unless a colon or an equals sign follows."""
    return rf"(?-i:{name.upper()})|{name}(?=[\"']?\s?[:=])"


# The words that people write next to national ids, by the validator's name in ids.VALIDATORS.
ID_WORDS = {
    "us": r"ssn|social[ -]security|itin",
    "ca": rf"{_match_capitals('sin')}|social[ -]insurance|{_match_capitals('nas')}",
    "au": r"tfn|tax[ -]file",
    "gb": r"nhs",
    "gb_nino": r"nino|national[ -]insurance|ni (?:number|no)",
    "ie": r"ppsn?|personal public service",
    "es": rf"dni|{_match_capitals('nie')}|nif",
    "fr": r"nir|insee|s[ée]curit[ée] sociale",
    "it": r"codice[ -]fiscale|cod\. ?fisc|c\.f",
    "de": r"idnr|steuer-?id\w*|steuerliche\w*|steuernummer|steuer-?nr|" + _match_capitals("tin"),
    "nl": r"bsn|burgerservice\w*|sofi\w*",
    "be": r"rijksregister\w*|registre national|num[ée]ro national|niss|insz|" + _match_capitals("nn"),
    "pl": r"pesel",
    "se": r"personnummer|personnr",
    "fi": r"hetu|henkil[öo]tunnus\w*",
    "no": r"f[øo]dselsnummer|f[øo]dselsnr|fnr",
    "dk": r"cpr(?:-?(?:nr|nummer))?",
    "is": r"kennitala|kt",
    "br": r"cpf",
    "in": r"aadhaa?r|uidai|(?-i:UID)",
    "in_pan": rf"{_match_capitals('pan')}|permanent account",
    "cn": r"ric|resident identity|身份证\w*|身份證\w*",
    "za": r"south african id|rsa id|sa id",
    "tr": r"tckn|tc kimlik|t\.c\.|kimlik",
    "ch": r"ahv\w*|avs|sozialversicherungs\w*",
    "at": r"vnr|svnr|sv-nummer|versicherungsnummer",
    "cz": r"rodn[ée]\w*|rč|r\.č",
    "pt": r"nif|contribuinte",
    "ro": r"cnp",
    "bg": r"egn|егн",
    "hr": r"oib",
    "ee": r"isikukood\w*",
    "lt": r"asmens kodas",
    "gr": r"amka|αμκα",
    "kr": r"rrn|resident registration|주민등록번호",
    "jp": r"my ?number card|マイナンバー|individual number",
    "mx": r"curp",
    "cl": rf"{_match_capitals('rut')}|{_match_capitals('run')}",
    "ar": r"cui[tl]",
    "th": r"thai id|thai national id",
    "my": r"mykad|nric",
    "il": rf"teudat zehut|{_match_capitals('tz')}",
    "id": r"nik|ktp",
}
ANY_ID = (
    r"national (?:id\w*|number)|identity (?:number|no|card|code|document)|id (?:card|document)"
    r"|identification(?: number)?|personal (?:id\w*|number|code|no)|citizen\w*|tax(?:payer)? (?:id\w*|number|no"
    r"|code)|(?:personal)?ausweis\w*"
    r"|government id|documento|document number|carte d'identit[ée]|carta d'identit[àa]"
)
PHONE = (
    r"t[ée]l|t[ée]l[ée]phone|t[eé]l[eé]f(?:[oó]|oo)n\w*|puhelin\w*|gsm|phone[ds]?|mobiles?|mobil\w*|mob|cell|cellphone"
    r"|cellulare|ph|call|calls|called|calling"
    r"|dial|dialed|dialling|ring|rang|fax|telefax|whats ?app|sms|text(?:ed)?|handy\w*|ruf\w*|anruf\w*"
    r"|durchwahl|portable|appele[rz]|m[oó]vil|celular|ll[aá]m\w+|ligue|ligar|telem[oó]vel|fijo|chiam\w+|zadzwo\w*"
    r"|hotline|helpline|landline|viber|telegram|(?:on|via|by|over) signal|reach"
    r"|(?:my|his|her|our|your|their) (?:new |work |home )?number|contact"
    r" (?:number|no|us|me)"
    r"|тел\w*|电话|電話|手机|手機|携帯|전화"
)
# "number", "no." and "id" follow these and mean nothing alone: so the last of these words before a number decides.
OTHER = (
    r"order\w*|invoices?|parts?|p/?n|(?:ersatz)?teile?(?:-?nr|nummer)?|ersatzteil\w*|onderdeel\w*|pi[eè]ces?|piezas?"
    r"|ricambi\w*|cz[eę][sś][cć]\w*|reservdel\w*|reservedel\w*|r[ée]f[ée]rences?|r[ée]f|referencia|riferimento"
    r"|mod[eèé]l\w*|s[ée]rie\w*|sku|items?|serials?|s/n|sn|ref(?:erence|s)?|tickets?"
    r"|track\w*|isbn\S*|issn"
    r"|ean\S*|upc|gtin|barcodes?|doi|pmid|versions?|v|ver|releases?|build|acct|accounts?|patents?|imei|iccid"
    r"|imsi|flight|lots?|batch"
    r"|(?-i:PO)|shipment|parcel|package|products?|catalog\w*|asin|articles?|bug|issue|commit|timestamps?|dates?|dated"
    r"|years?|epoch|lat(?:itude)?|lon|lng|longitude|coordinates?|transactions?|session|request|device|message"
    # A customer may have a phone number too, but not if a customer number follows.
    r"|(?:users?|customers?|clients?|employees?|members?|cases?)"
    r"(?=[ _-]?(?:id|no|nr|num|number|code)\b|[ :]{0,2}#)|kunden-?(?:nr|nummer)"
    r"|status|tweet|job"
    r"|policy|claim|contract|licen[cs]e|permit|vehicle|vin|zip|postcode|population|price|total|sum|revision|rev"
    r"|schema|port"
    r"|error|code|row|page|section|chapter|vat|ein|duns|bestell\w*|rechnung\w*|artikel\w*|sendung\w*"
    r"|commande|facture|bestelling|ordine|fattura|zam[oó]wieni\w*|faktur\w*"
    r"|pedido|factura"
)
CARD = (
    r"(?:credit|debit|bank|payment)?[ -]?cards?|visa|master ?card|amex|american express|discover|diners?|jcb|unionpay"
    r"|maestro|cc|karte\w*|kreditkarte\w*|carte|tarjeta|cart[aã]o?|卡号|银行卡"
)


def _compile_words() -> re.Pattern[str]:
    """One pattern for all words; the group's name is the word's meaning, "id_xx" for the ids of one country."""
    groups = {"card": CARD, "other": OTHER, "phone": PHONE, "any_id": ANY_ID}
    # Pairs of words come first, so that "id card" is no card, and "social insurance" no insurance policy.
    ordered = ["any_id", *(f"id_{name}" for name in ID_WORDS), "card", "other", "phone"]
    groups |= {f"id_{name}": words for name, words in ID_WORDS.items()}
    # No letter precedes a word, nor the bracket of a placeholder such as <PHONE>. Chinese has no blanks between words.
    return re.compile(
        r"(?<![^\W\d_])(?<!<)(?:" + "|".join(f"(?P<{n}>{groups[n]})" for n in ordered) + r")(?![^\W\d_])"
        r"|(?P<phone_cjk>电话|電話|手机|手機|携帯|전화)|(?P<id_cn_cjk>身份证|身份證)|(?P<card_cjk>卡号|银行卡)",
        re.IGNORECASE,
    )


WORDS = _compile_words()
LETTER = re.compile(r"[^\W\d_]")
# An order or a year in the sentence, paragraph or line before does not describe a number, except in "Order:\n".
BREAK = re.compile(r"[.!?][\s|>*_\"'()-]+[A-Z\u00c0-\u00de]|(?<!:)\n")
CLOSE = re.compile(r"[ \t(\[=-]*(?:[a-z]+ ){0,3}")  # is your order number
ITS_NUMBER = re.compile(r"[^\w\n]{0,4}(?:(?:no|nr|number|is)\b[^\w\n]{0,3})?\d", re.IGNORECASE)  # the word's own number


def context_of(text: str, start: int, end: int, before: int = 40, after: int = 16) -> str:
    """The meaning of the word nearest to text[start:end]: "phone", "card", "other", "any_id", "id_xx", or "".

    The last word before the number decides, unless it is about other numbers and in another sentence or line. If there
    is none, the first word after it does, on the same line and without a number of its own.
    """
    meaning = ""
    # A table of numbers has no letter, which is faster to check than that it has no such word.
    if LETTER.search(text, max(0, start - before), start):
        for match in WORDS.finditer(text, max(0, start - before), start):
            meaning = match.lastgroup
            if meaning == "other" and BREAK.search(text, match.end(), start):
                meaning = ""
    if not meaning and LETTER.search(text, end, end + after):
        line = text.find("\n", end, end + after)
        match = WORDS.search(text, end, line if line >= 0 else end + after)
        if match and not ITS_NUMBER.match(text, match.end()):
            meaning = match.lastgroup
            if meaning == "other" and not CLOSE.fullmatch(text, end, match.start()):
                meaning = ""
    return (meaning or "").removesuffix("_cjk")


# Seven or more digits with at most one separator between two: cards and national ids. One way to match: linear time;
# and possessive, since to remember each digit for a way back takes memory and time.
RUN = re.compile(r"(?<!\d)\d(?:[ \u00a0\u202f./+\-]?\d){6,}+")
GROUP = re.compile(r"\d+")
# What precedes only a part of a number: a letter, a digit with a dot or colon, a currency, a hash.
NOT_BEFORE = re.compile(r"(?:[A-Za-z0-9_\u00c0-\u052f]|\d[.:/-]|[$€£¥#]\s?|[0-9A-Fa-f]{4}-)\Z")
# And what follows only a part of one: a letter, more of a number, a per cent or currency sign.
NOT_AFTER = re.compile(r"[A-Za-z0-9_\u00c0-\u052f]|[.:/+-]\d|-[A-Za-z]|\s?[%€°]")
# A comma separates columns, except for decimals and thousands: digits alone, or all in threes.
COMMA_BEFORE = re.compile(r"\d{1,13},\Z")
COMMA_AFTER = re.compile(r",\d+")
IN_THREES = re.compile(r"\d{1,3}(?:[ .\u00a0\u202f]\d{3})+(?:[ \u00a0\u202f]\d{1,2})?")
# The beginning of a bank account that is written in fours: fours that follow belong to the account.
ACCOUNT = re.compile(r"(?<![^\W_])[A-Z]{2}\d\d(?:[ \u00a0][A-Z0-9]{4}){0,7}[ \u00a0]\Z")
FOUR = re.compile(r"\d{4}(?!\d)")


def is_standalone(text: str, start: int, end: int) -> bool:
    """Whether this is a number by itself, not a part of a longer one, of a word or of a price."""
    if NOT_BEFORE.search(text, max(0, start - 5), start) or NOT_AFTER.match(text, end):
        return False
    if FOUR.match(text, start) and ACCOUNT.search(text, max(0, start - 40), start):
        return False
    before, after = COMMA_BEFORE.search(text, max(0, start - 14), start), COMMA_AFTER.match(text, end)
    return not (before or after) or not _has_own_comma(text[start:end], before, after)


def _has_own_comma(number: str, before: re.Match | None, after: re.Match | None) -> bool:
    """Whether the comma next to it belongs to the number: sums have at most 12 digits, floats at most 17."""
    if number.isdigit():
        return len(number) <= 12 or bool(before and len(before.group()) - 1 + len(number) <= 17)
    return bool(IN_THREES.fullmatch(number)) and len((before or after).group()) <= 4


def candidate_numbers(text: str, run: re.Match) -> Iterator[tuple[int, int, str]]:
    """The numbers that a run of digits may contain, longer ones first: (start, end, form such as "3-2-4").

    Only a blank may separate two numbers, such as a card from its date.
    """
    groups = [match.span() for match in GROUP.finditer(text, *run.span())]
    gaps = [text[a[1] : b[0]].replace("\u00a0", " ").replace("\u202f", " ") for a, b in pairwise(groups)]
    gaps.append(" ")
    for i, (start, _) in enumerate(groups):
        if i and gaps[i - 1] != " ":
            continue
        form, n, candidates = "", 0, []
        for j in range(i, min(i + 8, len(groups))):
            n += groups[j][1] - groups[j][0]
            form += str(groups[j][1] - groups[j][0])
            if gaps[j] == " " and 9 <= n <= 19:
                candidates.append((start, groups[j][1], form))
            form += gaps[j]
        yield from reversed(candidates)


def piece_end(text: str, start: int, size: int) -> int:
    """Where a piece of at most `size` characters ends: with the text, or behind its last paragraph, line or word."""
    if len(text) - start <= size:
        return len(text)
    for sign in ("\n\n", "\n", " "):
        if (at := text.rfind(sign, start + 1, start + size)) > 0:
            return at + len(sign)
    return start + size
