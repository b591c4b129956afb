"""What is beside a number: its other digits, and words: a phone's, a card's, a national id's, some other number's."""

import re
from collections.abc import Iterator
from itertools import pairwise


def _capital(name: str) -> str:
    """A word such as SIN: in small letters it is another word, but before a colon or an equals sign."""
    return rf"(?-i:{name.upper()})|{name}(?=[\"']?\s?[:=])"


# National ids by the name of their validator in pii_ids.VALIDATORS; each with the words that people write beside one.
ID_WORDS = {
    "us": r"ssn|social[ -]security|itin",
    "ca": rf"{_capital('sin')}|social[ -]insurance|{_capital('nas')}",
    "au": r"tfn|tax[ -]file",
    "gb": r"nhs",
    "gb_nino": r"nino|national[ -]insurance|ni (?:number|no)",
    "ie": r"ppsn?|personal public service",
    "es": rf"dni|{_capital('nie')}|nif",
    "fr": r"nir|insee|s[ée]curit[ée] sociale",
    "it": r"codice[ -]fiscale|cod\. ?fisc|c\.f",
    "de": r"idnr|steuer-?id\w*|steuerliche\w*|steuernummer|steuer-?nr|" + _capital("tin"),
    "nl": r"bsn|burgerservice\w*|sofi\w*",
    "be": r"rijksregister\w*|registre national|num[ée]ro national|niss|insz|" + _capital("nn"),
    "pl": r"pesel",
    "se": r"personnummer|personnr",
    "fi": r"hetu|henkil[öo]tunnus\w*",
    "no": r"f[øo]dselsnummer|f[øo]dselsnr|fnr",
    "dk": r"cpr(?:-?(?:nr|nummer))?",
    "is": r"kennitala|kt",
    "br": r"cpf",
    "in": r"aadhaa?r|uidai|(?-i:UID)",
    "in_pan": rf"{_capital('pan')}|permanent account",
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
    "cl": rf"{_capital('rut')}|{_capital('run')}",
    "ar": r"cui[tl]",
    "th": r"thai id|thai national id",
    "my": r"mykad|nric",
    "il": rf"teudat zehut|{_capital('tz')}",
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
# These come with "number", "no." or "id", which are no words of their own: so the last word before a number decides.
OTHER = (
    r"order\w*|invoices?|parts?|p/?n|(?:ersatz)?teile?(?:-?nr|nummer)?|ersatzteil\w*|onderdeel\w*|pi[eè]ces?|piezas?"
    r"|ricambi\w*|cz[eę][sś][cć]\w*|reservdel\w*|reservedel\w*|r[ée]f[ée]rences?|r[ée]f|referencia|riferimento"
    r"|mod[eèé]l\w*|s[ée]rie\w*|sku|items?|serials?|s/n|sn|ref(?:erence|s)?|tickets?"
    r"|track\w*|isbn\S*|issn"
    r"|ean\S*|upc|gtin|barcodes?|doi|pmid|versions?|v|ver|releases?|build|acct|accounts?|patents?|imei|iccid"
    r"|imsi|flight|lots?|batch"
    r"|(?-i:PO)|shipment|parcel|package|products?|catalog\w*|asin|articles?|bug|issue|commit|timestamps?|dates?|dated"
    r"|years?|epoch|lat(?:itude)?|lon|lng|longitude|coordinates?|transactions?|session|request|device|message"
    # A customer may have a phone too: not so one with a number of his own.
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


def _compiled() -> re.Pattern[str]:
    """One search for all words; a group's name says what the word speaks of, "id_xx" of the ids of one country."""
    groups = {"card": CARD, "other": OTHER, "phone": PHONE, "any_id": ANY_ID}
    # What has two words comes first, so that "id card" is no card, and "social insurance" no insurance policy.
    ordered = ["any_id", *(f"id_{name}" for name in ID_WORDS), "card", "other", "phone"]
    groups |= {f"id_{name}": words for name, words in ID_WORDS.items()}
    # A word begins where no letter, and no bracket of a placeholder such as <PHONE>, is before it.
    # Chinese has no blanks between words.
    return re.compile(
        r"(?<![^\W\d_])(?<!<)(?:" + "|".join(f"(?P<{n}>{groups[n]})" for n in ordered) + r")(?![^\W\d_])"
        r"|(?P<phone_cjk>电话|電話|手机|手機|携帯|전화)|(?P<id_cn_cjk>身份证|身份證)|(?P<card_cjk>卡号|银行卡)",
        re.IGNORECASE,
    )


WORDS = _compiled()
LETTER = re.compile(r"[^\W\d_]")
# The order or the year of the sentence, paragraph or line before says nothing of a number, but for "Order:\n".
BREAK = re.compile(r"[.!?][\s|>*_\"'()-]+[A-Z\u00c0-\u00de]|(?<!:)\n")
CLOSE = re.compile(r"[ \t(\[=-]*(?:[a-z]+ ){0,3}")  # is your order number
ITS_NUMBER = re.compile(r"[^\w\n]{0,4}(?:(?:no|nr|number|is)\b[^\w\n]{0,3})?\d", re.IGNORECASE)  # the number of a word


def beside(text: str, start: int, end: int, before: int = 40, after: int = 16) -> str:
    """What the nearest word says of text[start:end]: "phone", "card", "other", "any_id", "id_xx", or "" for no word.

    The last word before it decides, but none of another sentence or line that speaks of other numbers; only where
    there is none, the first after it, on the same line and with no number of its own behind it.
    """
    found = ""
    # In a table of numbers there is no letter at all, which is quicker to see than that there is no such word.
    if LETTER.search(text, max(0, start - before), start):
        for match in WORDS.finditer(text, max(0, start - before), start):
            found = match.lastgroup
            if found == "other" and BREAK.search(text, match.end(), start):
                found = ""
    if not found and LETTER.search(text, end, end + after):
        line = text.find("\n", end, end + after)
        match = WORDS.search(text, end, line if line >= 0 else end + after)
        if match and not ITS_NUMBER.match(text, match.end()):
            found = match.lastgroup
            if found == "other" and not CLOSE.fullmatch(text, end, match.start()):
                found = ""
    return (found or "").removesuffix("_cjk")


# Seven digits or more with at most one separator between two: cards and national ids. No two ways to match, so linear.
RUN = re.compile(r"(?<!\d)\d(?:[ \u00a0\u202f./+\-]?\d){6,}")
GROUP = re.compile(r"\d+")
# What can't stand before a number that is whole: a letter, a digit with a dot or colon, a currency, a hash.
NOT_BEFORE = re.compile(r"(?:[A-Za-z0-9_\u00c0-\u052f]|\d[.:/-]|[$€£¥#]\s?|[0-9A-Fa-f]{4}-)\Z")
# Nor behind it: a letter, more of a number, a per cent or currency sign.
NOT_AFTER = re.compile(r"[A-Za-z0-9_\u00c0-\u052f]|[.:/+-]\d|-[A-Za-z]|\s?[%€°]")
# A comma parts columns, but for decimals and thousands: digits alone, or all in threes.
COMMA_BEFORE = re.compile(r"\d{1,13},\Z")
COMMA_AFTER = re.compile(r",\d+")
IN_THREES = re.compile(r"\d{1,3}(?:[ .\u00a0\u202f]\d{3})+(?:[ \u00a0\u202f]\d{1,2})?")
# The beginning of a bank account that is written in fours: what follows in fours is the account's.
ACCOUNT = re.compile(r"(?<![^\W_])[A-Z]{2}\d\d(?:[ \u00a0][A-Z0-9]{4}){0,7}[ \u00a0]\Z")
FOUR = re.compile(r"\d{4}(?!\d)")


def whole(text: str, start: int, end: int) -> bool:
    """Is this a number of its own, no part of a longer one, of a word or of a price?"""
    if NOT_BEFORE.search(text, max(0, start - 5), start) or NOT_AFTER.match(text, end):
        return False
    if FOUR.match(text, start) and ACCOUNT.search(text, max(0, start - 40), start):
        return False
    before, after = COMMA_BEFORE.search(text, max(0, start - 14), start), COMMA_AFTER.match(text, end)
    return not (before or after) or not _with_a_comma(text[start:end], before, after)


def _with_a_comma(number: str, before: re.Match | None, after: re.Match | None) -> bool:
    """Is the comma beside it a number's own? Digits alone are no sum above 12, and a float has 17 of them at most."""
    if number.isdigit():
        return len(number) <= 12 or bool(before and len(before.group()) - 1 + len(number) <= 17)
    return bool(IN_THREES.fullmatch(number)) and len((before or after).group()) <= 4


def windows(text: str, run: re.Match) -> Iterator[tuple[int, int, str]]:
    """The numbers that a run of digits may hold, longer ones first: (start, end, form as "3-2-4").

    A blank may also part two numbers, as a card from its date; no other separator does.
    """
    groups = [match.span() for match in GROUP.finditer(text, *run.span())]
    gaps = [text[a[1] : b[0]].replace("\u00a0", " ").replace("\u202f", " ") for a, b in pairwise(groups)]
    gaps.append(" ")
    for i, (start, _) in enumerate(groups):
        if i and gaps[i - 1] != " ":
            continue
        form, n, found = "", 0, []
        for j in range(i, min(i + 8, len(groups))):
            n += groups[j][1] - groups[j][0]
            form += str(groups[j][1] - groups[j][0])
            if gaps[j] == " " and 9 <= n <= 19:
                found.append((start, groups[j][1], form))
            form += gaps[j]
        yield from reversed(found)
