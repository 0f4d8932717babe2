"""A seeded generator of short emotion comments, so that a sweep can run without a download."""

import random
import re
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

Row = tuple[str, tuple[str, ...]]


class Voice(NamedTuple):
    """How one emotion speaks: adjectives, and phrases of their own; the most common ones first."""

    adjectives: tuple[str, ...]
    phrases: tuple[str, ...]
    neighbors: tuple[str, ...]


def _words(text: str, separator: str = " ") -> tuple[str, ...]:
    return tuple(text.split(separator))


def _voice(adjectives: str, phrases: str, neighbors: str) -> Voice:
    return Voice(_words(adjectives), _words(phrases, ", "), _words(neighbors))


# Most frequent first: the order of this table is the order of the labels' training frequency.
VOICES: dict[str, Voice] = {
    "admiration": _voice(
        "amazing brilliant impressive stunning masterful talented incredible gorgeous inspiring "
        "remarkable outstanding flawless legendary elegant superb magnificent exquisite skilled",
        "well played, hats off to you, you nailed it, pure talent, great work, what a legend, "
        "respect for the effort, bravo, in awe of this, top tier craft, a real artist",
        "approval love joy",
    ),
    "approval": _voice(
        "right fair sensible correct valid solid reasonable accurate agreeable sound acceptable "
        "justified decent logical balanced legit warranted spot-on well-argued",
        "i agree, good point, you are right, makes sense, fully support this, that works for me, "
        "fair enough, count me in, exactly this, cannot argue with that, yes to all of it",
        "admiration optimism gratitude",
    ),
    "gratitude": _voice(
        "helpful generous kind thoughtful useful appreciated handy valuable considerate lifesaving "
        "invaluable gracious charitable welcome selfless priceless timely giving neighbourly",
        "thank you so much, thanks for sharing, much appreciated, i owe you one, thanks a ton, "
        "you saved me hours, grateful for this, bless you, cheers mate, many thanks",
        "approval caring love",
    ),
    "amusement": _voice(
        "funny hilarious silly goofy comical ridiculous witty absurd playful cheeky laughable zany "
        "whimsical slapstick humorous droll wacky clownish corny side-splitting",
        "haha, lol, made me laugh, i am dying here, best joke today, lmao, cracking up, "
        "comedy gold, spat out my coffee, tears of laughter, rofl, giggling like a kid",
        "joy surprise love",
    ),
    "annoyance": _voice(
        "annoying irritating tiresome obnoxious tedious whiny petty bothersome nagging grating "
        "noisy pesky intrusive aggravating spammy smug wearying cloying insufferable",
        "ugh, stop doing that, so over this, give it a rest, not this again, rolls eyes, "
        "get a grip, enough already, drives me up the wall, how many times, leave it alone, sigh",
        "anger disapproval disappointment",
    ),
    "love": _voice(
        "lovely adorable beloved precious cute sweet charming darling cherished romantic dear "
        "dreamy endearing enchanting heartwarming treasured angelic lovable swoon-worthy",
        "i love it, my favourite, love you all, heart eyes, adore this, so much love, "
        "head over heels, loved every second, be mine, big fan forever, sending love",
        "admiration joy caring",
    ),
    "disapproval": _voice(
        "wrong unfair inappropriate unacceptable bad misguided irresponsible dubious dishonest "
        "questionable unethical biased careless improper reckless hypocritical tasteless unwise",
        "i disagree, not okay, do not do this, bad idea, hard pass, that is not how it works, "
        "you should not, no thanks, against this, poor choice, cannot support that, not a fan",
        "annoyance anger disappointment",
    ),
    "curiosity": _voice(
        "intriguing curious interesting mysterious fascinating unexplored unusual noteworthy novel "
        "puzzling cryptic secretive obscure compelling exotic niche unfamiliar undiscovered",
        "i wonder why, how does it work, tell me more, any source, what happens next, "
        "is there a guide, who made it, how come, would like to know, any details",
        "confusion surprise approval",
    ),
    "anger": _voice(
        "infuriating outrageous disgusting vile hateful stupid toxic despicable rotten cruel "
        "maddening savage shameful abusive monstrous repulsive vicious evil enraging",
        "shut up, how dare they, makes me furious, screw this, i hate it, boiling with rage, "
        "get lost, go to hell, sick of these people, blood is boiling, burn it down, damn them",
        "annoyance disapproval sadness",
    ),
    "optimism": _voice(
        "promising hopeful encouraging bright improving positive upcoming rosy uplifting "
        "favourable auspicious recovering achievable rising ambitious buoyant sunny ascending",
        "i hope so, fingers crossed, it gets better, looking forward to it, next time for sure, "
        "we will make it, better days ahead, keep going, there is a chance, good things coming",
        "approval joy caring",
    ),
    "joy": _voice(
        "happy wonderful delightful fun joyful cheerful great festive merry blissful glorious "
        "glad fantastic sparkling jolly radiant enjoyable exciting thrilling vibrant",
        "made my day, so happy now, best day ever, yay, woohoo, cannot stop smiling, "
        "dancing around, pure bliss, hooray, having a blast, on cloud nine, what a treat",
        "love amusement optimism",
    ),
    "confusion": _voice(
        "confusing unclear baffling vague ambiguous incoherent illogical perplexing contradictory "
        "murky nonsensical complicated convoluted disorienting bewildering muddled garbled",
        "i do not get it, what does it mean, am i missing something, huh, wait what, "
        "no idea, makes no sense, not sure i follow, can someone explain, scratching my head, eh",
        "curiosity surprise disapproval",
    ),
    "sadness": _voice(
        "sad heartbreaking tragic depressing gloomy painful lonely miserable sorrowful mournful "
        "grim devastating tearful melancholic hopeless dreadful somber bitter haunting",
        "i am crying, rest in peace, so sorry to hear, breaks my heart, i miss it, feeling down, "
        "poor thing, broke me, gone too soon, tears in my eyes, nothing left, sobbing",
        "disappointment caring anger",
    ),
    "surprise": _voice(
        "surprising unexpected shocking unbelievable wild sudden astonishing startling unreal "
        "unpredictable jaw-dropping staggering mind-blowing strange improbable dramatic rare",
        "wow, no way, did not see that coming, i am shocked, oh my god, out of nowhere, "
        "what a twist, never expected this, holy cow, plot twist, are you serious, blown away",
        "amusement curiosity confusion",
    ),
    "disappointment": _voice(
        "disappointing underwhelming mediocre weak lacking boring lame bland forgettable stale "
        "lackluster uninspired overhyped half-baked unfinished hollow wasted subpar flat",
        "what a letdown, expected more, such a shame, not worth it, missed opportunity, too bad, "
        "had high hopes, could have been better, fell short, let us down, oh well, never again",
        "sadness annoyance disapproval",
    ),
    "caring": _voice(
        "tender gentle comforting supportive safe protective warm soothing compassionate healing "
        "patient nurturing fragile understanding attentive concerned loyal forgiving motherly",
        "take care, stay safe, hope you feel better, be kind to yourself, here for you, "
        "you are not alone, sending hugs, please rest, reach out anytime, look after yourself",
        "gratitude love sadness",
    ),
}
NEUTRAL = "neutral"
_AN = re.compile(r"\ba (?=[aeio]|u(?!se))")
EMOTIONS: tuple[str, ...] = tuple(VOICES)

TRAIN_ROWS = (1620, 1460, 1000, 860, 700, 600, 520, 460, 420, 385, 330, 300, 275, 250, 230, 205)
HELD_OUT_ROWS, NEUTRAL_TRAIN_ROWS, NEUTRAL_HELD_OUT_ROWS = 70, 1200, 120
TWO_LABEL_SHARE, DUPLICATE_SHARE, LEAK_SHARE, LABEL_NOISE = 0.06, 0.015, 0.05, 0.04
NO_CUE, NEUTRAL_NO_CUE, TWO_CUES = 0.12, 0.7, 0.42
FEWEST_SPACES = 5
NEIGHBOR_CUE, ANY_CUE = 0.14, 0.06

SUBJECTS = _words(
    "game match player coach referee goal team season movie scene actor ending trailer soundtrack "
    "song album concert singer lyrics book chapter author villain hero episode show host interview "
    "podcast video clip edit thread comment mod post title meme photo painting drawing design "
    "dinner pizza coffee cake restaurant waiter menu dog cat puppy kitten vet garden neighbour "
    "landlord rent job boss meeting interviewer salary office teacher exam lecture homework school "
    "degree phone laptop update app bug patch server driver car bike train flight airport hotel "
    "beach mountain weather storm winter summer birthday wedding baby sister brother mother father "
    "friend date partner doctor hospital surgery gym workout diet tax budget bank election mayor "
    "protest law speech debate article headline study chart theory science rocket planet museum "
    "history castle war soldier"
)
OPENERS = _words(
    "honestly, well, to be clear, just now, as usual, so, okay, this morning, "
    "man, after all these years, look, in my opinion, at this point, yesterday, last night, anyway",
    ", ",
)
TAILS = _words(
    "in this thread, at the moment, if you ask me, after the last one, for a while now, "
    "like everyone says, since last week, with my friends, at home, in my town, again today, "
    "by the way, from start to finish, as far as i know, for the second time, this year, over here",
    ", ",
)
FACTS = _words(
    "i saw the {a} next to the {b}, we talked about the {a} and the {b}, the {a} is on at nine, "
    "they moved the {a} to another place, my {a} comes before the {b}, there is a {a} and a {b}, "
    "he mentioned the {a} during the {b}, she posted about the {a}, the {a} came with a {b}",
    ", ",
)
CLAIMS = _words(
    "the {a} was {adverb} {cue}, that {a} is {adverb} {cue}, what a {cue} {a}, such a {cue} {a}, "
    "this {a} feels {cue}, the whole {a} seems {cue}, one {cue} {a} and an even more {cue} {b}, "
    "i find the {a} {cue}, your {a} looks {adverb} {cue}, another {cue} {a}",
    ", ",
)
ADVERBS = _words("really, so, pretty, quite, very, kind of, always, just, truly, still", ", ")


@cache
def _falling_weights(count: int) -> tuple[float, ...]:
    # A long tail (shifted Zipf): a larger sample still has rare words to teach.
    return tuple(accumulate(1.0 / (rank + 3.0) for rank in range(count)))


def _pick(rng: random.Random, words: Sequence[str]) -> str:
    return rng.choices(words, cum_weights=_falling_weights(len(words)))[0]


def _subjects_of(label: str) -> list[str]:
    # Each label prefers its own subjects: weak evidence, learned only from many rows.
    return random.Random(f"subjects of {label}").sample(SUBJECTS, len(SUBJECTS))


class _Writer:
    """Writes comments, each only once."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"synthetic corpus {seed}")
        self.subjects = {label: _subjects_of(label) for label in (*EMOTIONS, NEUTRAL)}
        self.seen: set[str] = set()

    def write_new(self, labels: Sequence[str]) -> str:
        text = self._write(labels)
        while text in self.seen or text.count(" ") < FEWEST_SPACES:
            text = self._write(labels)
        self.seen.add(text)
        return text

    def _write(self, labels: Sequence[str]) -> str:
        parts = [self._clause(label) for label in self._cue_labels(labels)]
        if len(parts) < 2:
            parts.insert(self.rng.randrange(len(parts) + 1), self._fill(FACTS, labels[0], ""))
        if self.rng.random() < 0.4:
            parts[0] = f"{self.rng.choice(OPENERS)} {parts[0]}"
        if self.rng.random() < 0.4:
            parts[-1] = f"{parts[-1]} {self.rng.choice(TAILS)}"
        return _AN.sub("an ", ", ".join(parts)) + self.rng.choice((".", ".", "", "!"))

    def _cue_labels(self, labels: Sequence[str]) -> list[str]:
        if len(labels) > 1:
            return list(labels)
        no_cue = NO_CUE if labels[0] != NEUTRAL else NEUTRAL_NO_CUE
        odds = (no_cue, (1.0 - no_cue) * (1.0 - TWO_CUES), (1.0 - no_cue) * TWO_CUES)
        (count,) = self.rng.choices((0, 1, 2), odds)
        return [self._cue_label(labels[0]) for _ in range(count)]

    def _cue_label(self, label: str) -> str:
        draw = self.rng.random()
        if label == NEUTRAL or draw < ANY_CUE:
            return self.rng.choice(EMOTIONS)
        if draw < ANY_CUE + NEIGHBOR_CUE:
            return self.rng.choice(VOICES[label].neighbors)
        return label

    def _clause(self, label: str) -> str:
        voice = VOICES[label]
        if self.rng.random() < 0.45:
            return _pick(self.rng, voice.phrases)
        return self._fill(CLAIMS, label, _pick(self.rng, voice.adjectives))

    def _fill(self, templates: Sequence[str], label: str, cue: str) -> str:
        first, second = (_pick(self.rng, self.subjects[label]) for _ in range(2))
        template = self.rng.choice(templates)
        return template.format(a=first, b=second, cue=cue, adverb=self.rng.choice(ADVERBS))


def _write_rows(writer: _Writer, counts: dict[str, int]) -> list[Row]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    rows = [(writer.write_new((label,)), (_noisy(writer.rng, label),)) for label in labels]
    return rows + _write_two_label_rows(writer, round(len(rows) * TWO_LABEL_SHARE))


def _noisy(rng: random.Random, label: str) -> str:
    if label == NEUTRAL or rng.random() >= LABEL_NOISE:
        return label
    return rng.choice(VOICES[label].neighbors)


def _write_two_label_rows(writer: _Writer, count: int) -> list[Row]:
    firsts = writer.rng.choices(EMOTIONS, k=count)
    pairs = [(first, writer.rng.choice(VOICES[first].neighbors)) for first in firsts]
    return [(writer.write_new(pair), pair) for pair in pairs]


def _sample(rng: random.Random, rows: list[Row], share: float) -> list[Row]:
    return rng.sample(rows, round(len(rows) * share))


def build_synthetic_corpus(seed: int = 0) -> dict[str, list[Row]]:
    """Return the splits "train", "validation" and "test" as rows of (text, label names).

    Like real data it has two-label rows, repeated texts within train, and texts that are in train
    and in another split. Without those, every emotion has enough single-label rows for 2, 4, 8 or
    16 labels in balanced subsets of 2,400. The same seed gives the same rows.
    """
    writer = _Writer(seed)
    held_out = dict.fromkeys(EMOTIONS, HELD_OUT_ROWS) | {NEUTRAL: NEUTRAL_HELD_OUT_ROWS}
    wanted = dict(zip(EMOTIONS, TRAIN_ROWS, strict=True)) | {NEUTRAL: NEUTRAL_TRAIN_ROWS}
    train, validation, test = (_write_rows(writer, c) for c in (wanted, held_out, held_out))
    repeated = _sample(writer.rng, train, DUPLICATE_SHARE)
    leaked = _sample(writer.rng, validation + test, LEAK_SHARE)
    corpus = {"train": train + repeated + leaked, "validation": validation, "test": test}
    for rows in corpus.values():
        writer.rng.shuffle(rows)
    return corpus
