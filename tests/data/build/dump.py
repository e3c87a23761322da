# ruff: noqa: E501
"""A small MediaWiki dump, written by us: what is hard about real ones, and plain articles around it.

`PAGES` are (title, namespace, wikitext or None for a redirect, kept); `write` makes a dump of them in any packing.
"""

import bz2
import gzip
import html
import pathlib

NAMESPACES = {0: "", 1: "Talk", 6: "File", 10: "Template", 14: "Category"}
PLACES = ("Arnholt", "Besuvia", "Corvane", "Dunmere", "Estral", "Fennwick", "Gorland", "Hesper", "Ilmary", "Jostad")
RIVERS = ("Ure", "Vann", "Wyle", "Yarrow", "Zelm")

HARD = [
    (
        "Templates",
        0,
        "{{Infobox settlement\n| name = Arnholt\n| map = {{Location map|x|{{y|z}}}}\n}}\n'''Arnholt''' ({{IPA|x}}; founded "
        "{{circa|1250}}) is a town {{convert|5|km|mi}} north of the [[Vann]]. It has {{formatnum:1,200}} houses"
        "{{snd}}most of stone. {{Lang|fr|Le pont}} crosses the river.{{citation needed|date=May 2001}}",
        True,
    ),
    (
        "Tables",
        0,
        'The league began in 1901.\n{| class="wikitable"\n! Year !! Team\n|-\n| 1901 || Arnholt {{small|won}}\n|-\n'
        "|\n{| \n| inner\n|}\n|}\nIt ended in 1950.",
        True,
    ),
    (
        "References",
        0,
        'It rained.<ref name="a">{{cite web|url=http://x.example/1|title=Rain}}</ref> It snowed.<ref name="a" /> '
        "It froze.<ref group=n>Cold<!-- very --></ref>\n\n== See also ==\n* [[Snow]]\n\n== Weather ==\nIt thawed.\n"
        "=== References ===\n{{reflist}}\nText that is no prose.\n== Later ==\nIt bloomed.",
        True,
    ),
    (
        "Nested links",
        0,
        "[[File:Bridge.jpg|thumb|left|The [[bridge]] of [[Arnholt|the town]] in {{year}}]]The [[bridge (road)|bridge]] "
        "is old. See [http://x.example the site] or http://bare.example now. [[Category:Bridges|*]][[fr:Pont]]"
        "[[:Category:Bridges|Others]] stand too. [[Datei:Bild.png|mini]]",
        True,
    ),
    ("Old name", 0, None, False),
    ("Older name", 0, "#redirect [[Arnholt]]", False),
    ("Talk about Arnholt", 1, "I think that this is wrong. ~~~~", False),
    ("Bridge.jpg", 6, "A photograph of a bridge.", False),
    ("Stub box", 10, "<noinclude>A box.</noinclude>", False),
    ("Vann (disambiguation)", 0, "'''Vann''' may be a river or a person.", False),
    ("Ure", 0, "'''Ure''' may mean:\n* a river\n* a town\n{{Disambiguation|geo}}", False),
    ("List of rivers", 0, "There are five rivers.\n* [[Ure]]\n* [[Vann]]", False),
    ("Nothing", 0, "   ", False),
    ("Only a box", 0, "{{Infobox\n| a = b\n}}\n[[Category:Boxes]]", False),
    (
        "日本の川",
        0,
        "'''日本の川'''は長い。[[信濃川]]は367キロメートルである。{{lang|ja|水}}が流れる。\n\nΤο ποτάμι είναι μακρύ. Река "
        "длинная, а\u0301 и е\u0308 сложены. 🏞️ is a picture. עברית נכתבת מימין לשמאל.",
        True,
    ),
    (
        "Broken markup",
        0,
        "'''Broken''' pages }} exist. {{Unclosed box | a = b\n| c = [[d\nThey stay readable. ''Mostly.\n<ref>never closed\n"
        "</div>Stray tags go. [[Half a link and a ]] besides.\n{| never closed\n| cell\n\nThe end is near.",
        True,
    ),
    (
        "Tags & entities",
        0,
        "Fish &amp; chips cost 5&nbsp;&pound; &mdash; or more &#8212; here.<br/>A<sub>2</sub> and x<sup>2</sup> stay. "
        "<math>\\frac{a}{b}</math><gallery>\nFile:a.jpg|A\n</gallery><nowiki>[[plain]]</nowiki> text. __NOTOC__ "
        "<syntaxhighlight lang=c>int x;</syntaxhighlight><blockquote>A quotation stands here.</blockquote> Done.",
        True,
    ),
    (
        "Lists",
        0,
        "Three things are known.\n* The first is a sentence.\n* second\n# Third, with an end!\n; term\n: meaning\n",
        True,
    ),
    ("Same words", 0, "Three words here. Three words here.", True),
]
PLAIN = [
    (
        f"{place} {kind}",
        0,
        f"'''{place} {kind}''' is a {kind} in [[{place}]] on the river [[{river} (river)|{river}]]. It was built in "
        f"{1700 + 7 * i} by {PLACES[(i + 3) % 10]} men.<ref>{{{{cite book|title={place}}}}}</ref>\n\n== History ==\n"
        f"After the fire of {1800 + i} it stood empty for {i + 2} years. In {1850 + i} [[{PLACES[(i + 5) % 10]}]] bought "
        f"it for £{100 * i + 50}.\n\n== References ==\n{{{{reflist}}}}\n[[Category:{kind}s]]",
        True,
    )
    for i, (place, kind, river) in enumerate(
        (place, kind, RIVERS[j % 5])
        for j, (place, kind) in enumerate((p, k) for k in ("bridge", "mill", "church", "tower") for p in PLACES)
    )
]
PAGES = [*HARD, *PLAIN]
KEPT = [title for title, _, _, kept in PAGES if kept]


def page_xml(number: int, title: str, namespace: int, text: str | None) -> str:
    """XML of a page as MediaWiki exports it; text None is a redirect."""
    prefix = NAMESPACES[namespace]
    title = f"{prefix}:{title}" if prefix else title
    redirect = "" if text is not None else '    <redirect title="Arnholt" />\n'
    text = "#REDIRECT [[Arnholt]]" if text is None else text
    return (
        f"  <page>\n    <title>{html.escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n{redirect}"
        f"    <revision>\n      <id>{1000 + number}</id>\n      <timestamp>2020-01-01T00:00:00Z</timestamp>\n"
        "      <contributor><username>u</username><id>1</id></contributor>\n      <model>wikitext</model>\n"
        f'      <format>text/x-wiki</format>\n      <text bytes="{len(text.encode())}" xml:space="preserve">'
        f"{html.escape(text, quote=False)}</text>\n      <sha1>x</sha1>\n    </revision>\n  </page>\n"
    )


def header() -> str:
    """What stands before the first page."""
    names = "".join(f'      <namespace key="{k}" case="first-letter">{v}</namespace>\n' for k, v in NAMESPACES.items())
    return (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n  <siteinfo>\n'
        f"    <sitename>Test</sitename>\n    <namespaces>\n{names}"
        '      <namespace key="6" case="first-letter">Datei</namespace>\n    </namespaces>\n  </siteinfo>\n'
    )


def xml(pages=None) -> str:
    """The whole dump; `pages` are strings of XML."""
    return header() + "".join(all_pages() if pages is None else pages) + "</mediawiki>\n"


def all_pages() -> list[str]:
    """XML of every page, with ids from 10 on."""
    return [page_xml(10 + i, title, namespace, text) for i, (title, namespace, text, _) in enumerate(PAGES)]


def write(folder: pathlib.Path, packing: str, per_stream: int = 5) -> pathlib.Path:
    """Writes the dump as `xml`, `bz2`, `gz` or `multistream` (with its index); returns its file."""
    if packing == "xml":
        file = folder / "test-pages-articles.xml"
        file.write_text(xml(), encoding="utf-8")
    elif packing == "multistream":
        file = folder / "test-pages-articles-multistream.xml.bz2"
        data, index, pages = bz2.compress(header().encode()), [], all_pages()
        for first in range(0, len(pages), per_stream):
            index += [f"{len(data)}:{10 + i}:{PAGES[i][0]}" for i in range(first, min(first + per_stream, len(pages)))]
            data += bz2.compress("".join(pages[first : first + per_stream]).encode())
        file.write_bytes(data + bz2.compress(b"</mediawiki>\n"))
        index_file = folder / "test-pages-articles-multistream-index.txt.bz2"
        index_file.write_bytes(bz2.compress("".join(f"{line}\n" for line in index).encode()))
    else:
        file = folder / f"test-pages-articles.xml.{packing}"
        file.write_bytes({"bz2": bz2, "gz": gzip}[packing].compress(xml().encode()))
    return file
