"""SQuAD's paragraphs as records: read from its published JSON or from its examples, they get the same ids."""

from collections.abc import Iterable

from realm_jax.config import ConfigError
from realm_jax.records import Record


def squad_paragraphs(examples: Iterable[dict]) -> list[Record]:
    """Collects the distinct paragraphs of SQuAD examples (one per question), by article and first appearance."""
    articles: dict[str, dict[str, None]] = {}
    for example in examples:
        title, context = (_decode(example[key]) for key in ("title", "context"))
        articles.setdefault(title.replace("_", " "), {})[context] = None
    return [
        Record(f"squad/{title}/{i}", title, text, f"tfds:squad {title}")
        for title in sorted(articles)
        for i, text in enumerate(articles[title])
    ]


def squad_rows(values: dict, where: str) -> list[dict[str, str]]:
    """Collects the distinct paragraphs {id, title, context} of SQuAD's JSON. Raises ConfigError for other JSON."""
    examples = []
    try:
        for article in values["data"]:
            for paragraph in article["paragraphs"]:
                examples.append({"title": article["title"], "context": paragraph["context"]})
                if not all(isinstance(value, str) for value in examples[-1].values()):
                    raise TypeError
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{where}: has a list `data` but not SQuAD's {{title, paragraphs: [{{context}}]}} in it: pass another file"
        ) from error
    return [{"id": r.id, "title": r.title, "context": r.text} for r in squad_paragraphs(examples)]


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
