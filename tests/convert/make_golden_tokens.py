"""Writes golden_tokens.json: what the pure-Python BertTokenizer of transformers 4.57.6 makes of 10,000 real sentences.

    ORACLE/bin/python tests/convert/make_golden_tokens.py VOCAB.txt SUMMARIES.json

SUMMARIES.json are the articles of asset:wiki-leads, whose licence keeps their text out of this repository: of each
sentence only a hash of its token ids is written. The sentences below are ours and written with their ids.
"""

import hashlib
import json
import pathlib
import re
import sys

NUM_SENTENCES = 10_000
OURS = [
    "Café, naïve, Ångström, Đặng, Straße, Ærø, œuvre.",
    "cafe\u0301 and n\u0303 with combining marks; e\u0302\u0323 with two.",
    "서울은 대한민국의 수도이다. \u1112\u1161\u11ab\u1100\u1173\u11af",
    "東京は日本の首都です。 北京 is 北京市; 𠮷野家 uses a rare character.",
    "Emoji: 🦊🚀👩‍👩‍👧‍👦 🇫🇷 1️⃣ ❤️.",
    "Control \x00 characters \x07 and \x7f, zero\u200bwidth, soft\u00adhyphen, \ufeffBOM, \ufffd.",
    "Spaces:\u00a0no-break,\u2003em,\u3000ideographic,\ttab,\nline,\rreturn,\u2028separator.",
    "İstanbul, ISPARTA, DİYARBAKIR, ılık; ﬁne ﬂuid Ⅷ ℌ ①.",
    "Quotes “curly” ‘single’ «guillemets» „low“; dashes - – — ―; ellipsis …",
    "Maths: x²+y²≤∞, ∑ᵢ αᵢ ≠ ½, 10⁻³ Å, 5′ 30″, 3×4÷2.",
    "Ελληνικά: Αθήνα, Ὀδυσσεύς. Русский: Москва, ёлка, Йошкар-Ола.",
    "العربية: القَاهِرَة. עברית: יְרוּשָׁלַיִם. हिन्दी: नई दिल्ली. ไทย: กรุงเทพ",
    "http://example.org/a_b?c=d&e=f#g and user.name+tag@example.com, C++/C#, $5.00, 100%, #tag, @me.",
    "[MASK] [CLS] [SEP] [PAD] [UNK] [mask] [unused1]",
    "a" * 120,
    "supercalifragilisticexpialidocious antidisestablishmentarianism 1234567890123456789012345678901234567890",
    "'s n't I'm you're O'Neill rock'n'roll",
    "MiXeD CaSe And ALLCAPS and iPhone",
    "Private use \ue000, lone tag \U000e0041, variation \ufe0f.",
    "",
    " ",
]


def sentences(summaries: pathlib.Path) -> list[str]:
    """Real sentences in the order of the articles, cut at full stops; the script and the test agree on them."""
    articles = json.loads(summaries.read_text())
    parts = (part for article in articles.values() for part in re.split(r"(?<=[.!?]) ", article["extract"]))
    odd, plain = [], []
    for part in parts:
        (plain if part.isascii() else odd).append(part)
    return (odd + plain)[:NUM_SENTENCES]  # those with other letters first: they are the harder ones


def digest(ids: list[int]) -> str:
    """Eight hexadecimal digits of a sentence's ids."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:8]


def main() -> None:
    from transformers import BertTokenizer, __version__

    vocab, summaries = sys.argv[1:]
    tokenizer = BertTokenizer(vocab)

    def ids(text: str) -> list[int]:
        return tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))

    golden = {
        "made_with": f"transformers {__version__}, BertTokenizer",
        "vocab_sha256": hashlib.sha256(pathlib.Path(vocab).read_bytes()).hexdigest(),
        "ours": [{"text": text, "ids": ids(text)} for text in OURS],
        "wiki_leads": "".join(digest(ids(text)) for text in sentences(pathlib.Path(summaries))),
    }
    file = pathlib.Path(__file__).with_name("golden_tokens.json")
    file.write_text(json.dumps(golden, indent=0) + "\n")
    print(f"{file}: {len(OURS)} sentences of ours, {len(golden['wiki_leads']) // 8} of the asset")


if __name__ == "__main__":
    main()
