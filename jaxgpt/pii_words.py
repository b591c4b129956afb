"""The words beside a number that say what it is: a phone's, a card's, a national id's, or some other number's."""

import re

# National ids by the name of their validator in pii_ids.VALIDATORS; each with the words that people write beside one.
ID_WORDS = {
    "us": r"ssn|social[ -]security|itin",
    "ca": r"sin|social[ -]insurance|nas",
    "au": r"tfn|tax[ -]file",
    "gb": r"nhs",
    "gb_nino": r"nino|national[ -]insurance|ni (?:number|no)",
    "ie": r"ppsn?|personal public service",
    "es": r"dni|nie|nif|documento",
    "fr": r"nir|insee|s[ée]curit[ée] sociale",
    "it": r"codice[ -]fiscale|cod\. ?fisc|c\.f",
    "de": r"idnr|steuer-?id\w*|steuerliche\w*|steuernummer|steuer-?nr|tin",
    "nl": r"bsn|burgerservice\w*|sofi\w*",
    "be": r"rijksregister\w*|registre national|num[ée]ro national|niss|insz|nn",
    "pl": r"pesel",
    "se": r"personnummer|personnr",
    "fi": r"hetu|henkil[öo]tunnus\w*",
    "no": r"f[øo]dselsnummer|f[øo]dselsnr|fnr",
    "dk": r"cpr(?:-?(?:nr|nummer))?",
    "is": r"kennitala|kt",
    "br": r"cpf",
    "in": r"aadhaa?r|uidai|uid",
    "in_pan": r"pan|permanent account",
    "cn": r"ric|resident identity|身份证|身份證",
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
    "cl": r"rut|run",
    "ar": r"cui[tl]",
    "th": r"thai id|thai national id",
    "my": r"mykad|nric",
    "il": r"teudat zehut|tz",
    "id": r"nik|ktp",
}
ANY_ID = (
    r"national (?:id\w*|number)|identity (?:number|no|card|code|document)|id (?:card|document)"
    r"|identification(?: number)?|personal (?:id\w*|number|code|no)|citizen\w*|tax(?:payer)? (?:id\w*|number|no"
    r"|code)|(?:personal)?ausweis\w*"
    r"|government id"
)
PHONE = (
    r"tel|t[ée]l[ée]phone|telephone|tele(?:fon|f[oó]n)\w*|phone[ds]?|mobiles?|mobil\w*|mob|cell|cellphone"
    r"|cellulare|ph|call|calls"
    r"|called|calling|dial|dialed|dialling|ring|rang|fax|telefax|whats ?app|sms|text(?:ed)?|handy\w*|ruf\w*|anruf\w*"
    r"|durchwahl|portable|appele[rz]|m[oó]vil|celular|llam\w+|ll[aá]me\w*|ligue|hotline|helpline|landline"
    r"|viber|telegram|signal|reach|(?:my|his|her|our|your|their) (?:new |work |home )?number|contact (?:number"
    r"|no|us|me)"
    r"|тел\w*|电话|電話|手机|手機|携帯|전화"
)
# These come with "number", "no." or "id", which are no words of their own: so the last word before a number decides.
OTHER = (
    r"order\w*|invoices?|parts?|p/?n|sku|items?|models?|serials?|s/n|sn|ref(?:erence|s)?|tickets?|cases?"
    r"|track\w*|isbn\S*|issn"
    r"|ean\S*|upc|gtin|barcodes?|doi|pmid|versions?|v|ver|releases?|build|acct|accounts?|patents?|imei|iccid"
    r"|imsi|flight|lots?|batch"
    r"|po|shipment|parcel|package|products?|catalog\w*|asin|articles?|bug|issue|commit|timestamps?|dates?|dated"
    r"|years?|epoch|lat\w*"
    r"|lon\w*|coordinates?|transactions?|session|request|users?|customers?|employees?|members?|device|message"
    r"|status|tweet|job"
    r"|policy|claim|contract|licen[cs]e|permit|vehicle|vin|zip|postcode|population|price|total|sum|revision|rev"
    r"|schema|port"
    r"|error|code|row|page|section|chapter|vat|ein|duns|bestell\w*|rechnung\w*|artikel\w*|commande|facture"
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


def beside(text: str, start: int, end: int, before: int = 40, after: int = 16) -> str:
    """What the nearest word says of text[start:end]: "phone", "card", "other", "any_id", "id_xx", or "" for no word.

    The last word before it decides; only where there is none, the first after it, on the same line.
    """
    found = ""
    # In a table of numbers there is no letter at all, which is quicker to see than that there is no such word.
    if LETTER.search(text, max(0, start - before), start):
        for match in WORDS.finditer(text, max(0, start - before), start):
            found = match.lastgroup
    if not found and LETTER.search(text, end, end + after):
        line = text.find("\n", end, end + after)
        if match := WORDS.search(text, end, line if line >= 0 else end + after):
            found = match.lastgroup
    return (found or "").removesuffix("_cjk")
