"""English prose by the page, made from a small grammar: natural enough for rules about words, lines and sentences.

Nothing that stands fixed in a sentence is longer than three words, so that two documents share hardly five in a row.
"""

import random


def listed(text: str) -> list[str]:
    """The parts of a text between commas."""
    return [" ".join(part.split()) for part in text.split(",")]


# Of each topic, nouns of one or two words.
NOUNS = {
    "sea": listed(
        """lighthouse, harbour, fishing boat, reef, anchor, sailor, tide, chart, cargo ship, captain, pier,
        ferry, storm, net, crew"""
    ),
    "farm": listed(
        """orchard, barn, tractor, farmer, meadow, fence, harvest, goat, seed drill, well, scarecrow, shepherd,
        hedge, mill, beehive"""
    ),
    "city": listed(
        """tram, market, square, bridge, bakery, mayor, tunnel, theatre, fountain, museum, alley, clock tower,
        courtyard, statue, kiosk"""
    ),
    "lab": listed(
        """microscope, sample, chemist, furnace, sensor, notebook, detector, crystal, vacuum pump, engineer,
        lens, magnet, graph, probe"""
    ),
    "kitchen": listed(
        """kettle, cook, oven, recipe, spoon, onion, cellar, cheese wheel, knife, stew, waiter, jar, pantry,
        soup, ladle, apron"""
    ),
    "music": listed(
        """violin, orchestra, conductor, melody, drum, singer, choir, rehearsal, piano, stage, trumpet,
        audience, score, string bow"""
    ),
    "mountain": listed(
        """glacier, climber, ridge, hut, valley, goat path, guide, avalanche, summit, rope, cabin, pass,
        spring, pine forest, cliff"""
    ),
    "court": listed(
        """judge, witness, letter, lawyer, contract, clerk, hearing, verdict, archive, folder, appeal,
        neighbour, promise, debt, lease"""
    ),
    "school": listed(
        """teacher, pupil, blackboard, exam, library, bell, lesson, poem, corridor, playground, atlas, chalk,
        headmaster, essay, desk"""
    ),
    "train": listed(
        """station, conductor, signal box, carriage, timetable, locomotive, platform, ticket, tunnel, driver,
        viaduct, suitcase, rail"""
    ),
    "health": listed(
        """nurse, doctor, bandage, ward, patient, fever, clinic, stretcher, pharmacy, remedy, surgeon, pulse,
        vaccine, bed lamp"""
    ),
    "trade": listed(
        """merchant, ledger, warehouse, coin, scale, silk bale, customer, bargain, shop window, crate, broker,
        caravan, price list"""
    ),
}
ADJECTIVES = listed(
    """old, narrow, quiet, broken, famous, green, heavy, hidden, early, empty, careful, crooked, distant, foreign,
    gentle, golden, honest, humble, iron, late, lonely, loud, modern, muddy, noisy, pale, patient, plain, proud,
    rusty, secret, sharp, silver, simple, slow, small, solid, strange, sudden, tall, tired, warm, wide, wooden,
    young, bright, bitter, clumsy, costly, damp, dusty, eager, fragile, grey"""
)
VERBS = listed(
    """admire:admired, borrow:borrowed, carry:carried, clean:cleaned, close:closed, collect:collected,
    compare:compared, copy:copied, count:counted, cover:covered, deliver:delivered, describe:described,
    destroy:destroyed, discover:discovered, examine:examined, exchange:exchanged, explain:explained,
    finish:finished, follow:followed, guard:guarded, ignore:ignored, improve:improved, inspect:inspected,
    lift:lifted, lock:locked, mark:marked, measure:measured, mention:mentioned, move:moved, notice:noticed,
    offer:offered, open:opened, order:ordered, paint:painted, polish:polished, prepare:prepared,
    promise:promised, protect:protected, pull:pulled, remember:remembered, remove:removed, repair:repaired,
    replace:replaced, rescue:rescued, return:returned, save:saved, search:searched, share:shared, show:showed,
    sketch:sketched, study:studied, test:tested, touch:touched, trade:traded, transport:transported,
    trust:trusted, turn:turned, visit:visited, want:wanted, watch:watched, weigh:weighed, welcome:welcomed"""
)
MOVED = listed(
    """arrived, collapsed, disappeared, failed, froze, grew, improved, leaned, rested, rose, shook, sank, vanished,
    waited, woke"""
)
PLACES = listed(
    """behind, beside, near, under, above, inside, beyond, opposite, close to, far from, in front of, next to, across
    from"""
)
TIMES = listed(
    """on Monday, in the spring, at dawn, last winter, before noon, after the war, every evening, two years later, that
    night, during the flood, at midnight, in October, by accident, without warning, for a week, once more, since
    childhood, at harvest time"""
)
PEOPLE = listed(
    """Agnes, Bruno, Clara, Dmitri, Edith, Farid, Greta, Hugo, Irene, Jakob, Klara, Leon, Mina, Nils, Odette, Pavel,
    Rosa, Simon, Tilda"""
)
NUMBERS = listed("two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, twenty, thirty, forty")
SPANS = listed("minutes, hours, days, weeks, months, years")
MOODS = listed(
    """useful, worthless, ready, unsafe, popular, forgotten, complete, too small, worth the trouble, hard to find, full
    of sand"""
)
ADVERBS = listed(
    """slowly, quickly, badly, gladly, twice, again, together, alone, carefully, silently, almost, daily, openly,
    rarely"""
)


def sentence(rng: random.Random, topic: str) -> str:
    """One sentence of 10 to 25 words."""
    pick = rng.choice

    def thing() -> str:
        if rng.random() < 0.15:
            return pick(PEOPLE)
        noun = pick(NOUNS[topic if rng.random() < 0.8 else pick(list(NOUNS))])
        words = f"{pick(ADJECTIVES)} {noun}" if rng.random() < 0.6 else noun
        det = pick(["the", "the", "the", "a", "every", "their", "his", "our", "that", "another"])
        return f"{'an' if det == 'a' and words[0] in 'aeiou' else det} {words}"

    def does() -> str:
        return pick(VERBS).split(":")[1]

    def where() -> str:
        return f"{pick(PLACES)} {thing()}"

    form = rng.randrange(9)
    if form == 0:
        text = f"{thing()} {does()} {thing()} {where()}"
    elif form == 1:
        text = f"{pick(TIMES)}, {thing()} {does()} {thing()}, and {thing()} {pick(MOVED)} {where()}"
    elif form == 2:
        text = f"{pick(PEOPLE)} said that {thing()} {does()} {thing()} because {thing()} {pick(MOVED)} {pick(TIMES)}"
    elif form == 3:
        text = f"when {thing()} {pick(MOVED)}, {thing()} {does()} {thing()} {pick(ADVERBS)}"
    elif form == 4:
        text = f"it took {pick(NUMBERS)} {pick(SPANS)} to {pick(VERBS).split(':')[0]} {thing()} {where()}"
        text += f", but {thing()} {does()} {thing()}"
    elif form == 5:
        text = f"{thing()} that {does()} {thing()} was {pick(MOODS)}, although {thing()} {pick(MOVED)} {where()}"
    elif form == 6:
        text = f"nobody {where()} had {does()} {thing()} {pick(TIMES)}, so {thing()} {does()} {thing()}"
    elif form == 7:
        text = f"of the {pick(NUMBERS)} people with {thing()}, only {pick(PEOPLE)} {does()} {thing()} {pick(TIMES)}"
    else:
        text = f"{thing()} and {thing()} {does()} {thing()} {pick(ADVERBS)} {where()}"
    return text[0].upper() + text[1:] + "."


def paragraph(rng: random.Random, topic: str, words: int) -> str:
    """Sentences in a row, until there are `words` words."""
    out, count = [], 0
    while count < words:
        out.append(sentence(rng, topic))
        count += out[-1].count(" ") + 1
    return " ".join(out)


def document(rng: random.Random, words: int = 150, topic: str = "") -> str:
    """Paragraphs of about 60 words about one topic, with an empty line between two."""
    topic = topic or rng.choice(list(NOUNS))
    return "\n\n".join(paragraph(rng, topic, min(60, words - 60 * part)) for part in range((words + 59) // 60))
