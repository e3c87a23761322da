"""A sentence with blanks as people type it: the text between the blanks, and the wordpieces that the model reads."""

import re
from dataclasses import dataclass

from tokenizers import Tokenizer

from realm_jax.data.assembly import SpecialIds
from realm_jax.inference.results import Refused, length_note, unknown_note

BLANK = re.compile(r"\[mask\]", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """The part of a text that is read."""

    ids: list[int]
    """Wordpieces, each blank as [MASK]."""
    masked: list[int]
    """Positions of the blanks among the wordpieces."""
    parts: list[str]
    """The text around the blanks: one part more than blanks."""
    notes: list[str]
    """What was cut or is unknown."""


def literal_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that takes `[SEP]` in a text for five characters, as a reader does, and not for a special token."""
    literal = Tokenizer.from_str(tokenizer.to_str())
    literal.encode_special_tokens = True
    return literal


def read_sentence(text: str, literal: Tokenizer, special: SpecialIds, query_len_tokens: int) -> Sentence:
    """Finds the blanks of a text and keeps what fits into a query: the beginning, or the part around the first blank.

    Args:
        literal: from `literal_tokenizer`.

    Raises:
        Refused: there is no text, or no blank in it.
    """
    if not text.strip():
        raise Refused("Write a sentence with [MASK] where a word is missing.")
    parts = BLANK.split(text)
    if len(parts) == 1:
        raise Refused("The sentence has no [MASK]: write it where a word is missing, or choose an example.")
    ids: list[int] = []
    places: list[tuple[int, int, int]] = []  # part and characters in it of every wordpiece
    masked: list[int] = []
    for number, encoding in enumerate(literal.encode_batch(parts, add_special_tokens=False)):
        if number:
            masked.append(len(ids))
            ids.append(special.mask)
            places.append((number, 0, 0))
        ids += encoding.ids
        places += [(number, start, limit) for start, limit in encoding.offsets]
    notes = unknown_note(ids, literal.token_to_id("[UNK]"), special)
    room, given = query_len_tokens - 2, len(ids)
    if given <= room:
        return Sentence(ids, masked, parts, notes)
    start = 0 if masked[0] < room else min(masked[0] - room // 2, given - room)
    last_part, _, last_limit = places[start + room - 1]
    kept = [*parts[:last_part], parts[last_part][:last_limit]]
    kept[0] = kept[0][places[start][1] if start < masked[0] else 0 :]
    inside = [position - start for position in masked if position < start + room]
    where = "the first ones" if not start else "around the first blank"
    return Sentence(ids[start : start + room], inside, kept, [*length_note(room, given, where), *notes])
