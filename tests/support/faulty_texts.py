"""Texts that are poor, odd or unusual: the material of tests/support/faults.py."""

# ruff: noqa: RUF001

import random

from tests.support.prose import NOUNS, NUMBERS, PEOPLE, paragraph, sentence

# Right texts, to be read as what they are not; none has a character whose bytes would end a line in latin-1.
FOREIGN = [
    "The menu had crème brûlée, jalapeños and a naïve café au lait.", "She said “never again” and left the café.",
    "It’s the baker’s shop, isn’t it?", "Zürich, Köln and Málaga took part – Genève didn’t.",
    "The price rose from 10 € to 12 €.", "Señor Núñez and Frau Müller met in São Paulo.",
    "“Übung macht den Meister,” wrote Jörg.", "À bientôt, dit Hélène en français…",
    "The temperature was 21 °C ± 2 °C.", "Łukasz and Zofia moved to Kraków – or was it Łódź?",
    'The sign read "Осторожно" in red letters.', "Three things count: • soil • sun • à la carte manure",
    "Under § 64 a work is free after 70 years – or later.",
]  # fmt: skip

ODD = [
    "É verdade: a MAÇÃ, a IRMÃ e o AMANHÃ estão na canção “NÃO, SÃO PAULO”.",
    "“Quoted,” she said — ‘twice’ … and so on.",
    "Âncora, ângulo, Ásia; cœur, œuvre, « guillemets », „Gänsefüßchen“.", "Việt Nam: Đường phố Hà Nội rất đẹp.",
    "The proof: ∀x ∈ ℝ, x² ≥ 0, so √2 ≠ 3⁄2 and α ≤ β.", "東京は日本の首都です。 서울은 한국의 수도이다.",
    "She works from home 👩‍💻 and her family 👨‍👩‍👧 agrees 👍🏽.", "Привет, мир! Γειά σου Κόσμε!",
    "مرحبا بالعالم، שלום עולם",
    "Tabs\tbetween\tcolumns\tand a soft\u00adhyphen.", "naïve façade, Ångström, smörgåsbord, jalapeño, Dvořák, Škoda",
    "क्‍षेत्र is written with a joiner, and 10 % of ½ is ¹⁄₂₀.",
]  # fmt: skip

MENUS = [
    "Home | About | Contact | Blog", "Home > News > Archive", "Menu  Home  Products  Support  Sign in",
    "Skip to main content",
    "Log in | Register | Help", "Search this site...", "Toggle navigation",
]  # fmt: skip

FOOT = [
    "Cookie policy", "All rights reserved.", "© 2021 Harborstone. All rights reserved.", "Click here to subscribe",
    "Share on Facebook", "Share on Twitter", "Subscribe to our newsletter", "Privacy policy | Terms of service",
    "Accept all cookies", "We use cookies to improve your experience. By using this site you accept our cookie policy.",
    "Read more »", "Follow us on Instagram", "Powered by WordPress", "Leave a comment", "Terms of use",
]  # fmt: skip

MENTIONS = [
    "The company changed its cookie policy after the court had read it aloud, and nobody on the board objected.",
    "My grandmother never wrote down how she baked the cookies that all of us still talk about at Christmas.",
    "All rights reserved to the crown in that old charter were sold to the town for forty silver coins.",
    "He asked me to click here and there on the map until the hidden valley showed up on the screen.",
    "They used to share on Sundays what was left of the bread, and nobody in the village went hungry.",
    "She let her subscription to the newsletter lapse because the editor had stopped writing about gardens.",
    "The home that they built was about ten miles from the coast, and few people came to contact them there.",
    "In the privacy of the cabin the two captains agreed on the terms of service for the whole crew.",
    "The judge asked whether anybody would accept all of the blame, and three hands went up at once.",
    "When the teacher said that we should read more, my brother took her at her word and emptied the library.",
]


def with_controls(rng: random.Random, text: str) -> str:
    """The text with one to six control characters within its words."""
    for _ in range(rng.randint(1, 6)):
        place = rng.choice([n for n in range(1, len(text)) if text[n - 1 : n + 1].isalpha()])
        text = text[:place] + rng.choice("\0\1\2\7\b\x0e\x1b\x7f") + text[place:]
    return text


def low_quality(rng: random.Random, n: int) -> tuple[str, str]:
    """The n-th poor text, and why it is poor; the reasons take turns."""
    if n % 5 == 0:
        lines = [sentence(rng, "city") for _ in range(rng.randint(1, 2))]
        return "repeated lines", "\n".join(lines * rng.randint(20, 40))
    if n % 5 == 1:
        keys = "asdfjklqwertuiopzxcvbnm;,./'"
        return "keyboard noise", " ".join("".join(rng.choices(keys, k=rng.randint(2, 14))) for _ in range(90))
    if n % 5 == 2:
        return "symbols", "\n".join(
            " ".join(rng.choices(["★", "☆", "###", "---", "===", "$$$", "%%", "***", "|||", "◆", "→", "~~~"], k=12))
            for _ in range(25)
        )
    if n % 5 == 3:
        words = rng.sample(NOUNS[rng.choice(list(NOUNS))], rng.randint(2, 4))
        return "repeated words", " ".join(words * rng.randint(40, 70))
    return "numbers", "\n".join(" ".join(f"{rng.random() * 1000:.3f}" for _ in range(10)) for _ in range(30))


# ---- Sound, though not running prose


def minutes(rng: random.Random) -> str:
    """Minutes of a meeting: all have the same headings and phrases."""
    people = rng.sample(PEOPLE, 4)
    topics = [rng.choice(list(NOUNS)) for _ in range(3)]
    return "\n\n".join(
        [
            f"Minutes of the monthly meeting of the {rng.choice(NOUNS['city'])} committee",
            f"The meeting was opened at half past {rng.choice(NUMBERS[:9])} by {people[0]}, and the minutes of the "
            f"last meeting were approved without a change. {people[1]} and {people[2]} had sent their excuses.",
            f"First item on the agenda: what has been done since the last meeting. {sentence(rng, topics[0])}",
            f"Second item on the agenda: what is to be done next. {sentence(rng, topics[1])}",
            f"Any other business. {sentence(rng, topics[2])}",
            f"There being no further business, {people[0]} thanked the members and closed the meeting. The next one "
            f"will take place in {rng.choice(NUMBERS)} weeks. Minutes taken by {people[3]}.",
        ]
    )


def vacancy(rng: random.Random) -> str:
    """An advertisement for a job: all have the same headings and phrases."""
    topic = rng.choice(list(NOUNS))
    first, second = rng.sample(NOUNS[topic], 2)
    return "\n\n".join(
        [
            f"We are looking for a {first} keeper who would like to join our small and friendly team.",
            f"About the job. {sentence(rng, topic)}",
            f"What you bring. You have at least {rng.choice(NUMBERS[:6])} years of experience with a {second}, you "
            f"like to work with other people, and you don't mind an early start. {sentence(rng, topic)}",
            f"What we offer. A fair wage, {rng.choice(NUMBERS[8:])} days of holiday a year and a place to live nearby. "
            f"{sentence(rng, topic)}",
            f"Please send your letter to {rng.choice(PEOPLE)} before the end of the month.",
        ]
    )


def dialogue(rng: random.Random) -> str:
    one, two = rng.sample(PEOPLE, 2)
    lines = []
    for n in range(10):
        who, said = (one, two)[n % 2], sentence(rng, "sea" if n % 3 else "court")
        lines.append(f"“{said[:-1]}{rng.choice('.?!')}” {rng.choice(['said', 'asked', 'answered', 'replied'])} {who}.")
    return "\n".join(lines)


def recipe(rng: random.Random) -> str:
    things = rng.sample(["flour", "butter", "salt", "milk", "sugar", "yeast", "honey", "rye", "barley", "pepper"], 5)
    listed = "\n".join(f"- {rng.randint(2, 90) * 10} g of {thing}" for thing in things)
    return f"{paragraph(rng, 'kitchen', 60)}\n\nYou need:\n{listed}\n\n{paragraph(rng, 'kitchen', 80)}"


def poem(rng: random.Random) -> str:
    refrain = sentence(rng, "sea")
    verses = [[sentence(rng, rng.choice(["sea", "music"])) for _ in range(5)] for _ in range(4)]
    return "\n\n".join("\n".join([*verse, refrain]) for verse in verses)
