"""Tables of the report on a question set, each with its explanation, for every kind of page.

They are made from the values of `qa_report.results` alone. Shares are shown in percent.
"""

from collections.abc import Callable

from realm_jax.eval import plots
from realm_jax.eval.overlap import SAME_WORDS
from realm_jax.report import Figure, Section, Table
from realm_jax.scores.bootstrap import RESAMPLES

WORD_COLUMNS = ("system", "state", "question word", "overlap with training", "source")


def sections(results: dict) -> list[Section]:
    """The sections of the report, the scores first; what was not measured has none."""
    main = results["systems"][results["main"]]
    found = [_scores(results)]
    if table := results["recall"]:
        found.append(_recall(table))
    if counts := results["by_blocks"]:
        found.append(_blocks(counts))
    if ranks := main["by_answer_rank"]:
        text = "Exact match by the rank, from 0, of the first retrieved block that has a right answer."
        rows = [(name, f"{group['n']:,}", percent(group["mean"]), _ends(group)) for name, group in ranks.items()]
        header = ("rank", "questions", "exact match", "95% interval")
        found.append(_section("By rank", text, header, rows, lambda: plots.exact_match_by_rank(ranks)))
    if main["calibration"]:
        found.append(_calibration(main["calibration"]))
    text = "Exact match in percent by question word."
    found.append(_by_group(results, "by_word", "question word", text))
    if main["by_overlap"]:
        text = "Exact match in percent by what the training questions have. An answer is the same in normal form; a "
        text += (
            f"question is if it has the same answer, too, and {SAME_WORDS:.0%} of both questions' words are in both."
        )
        found.append(_by_group(results, "by_overlap", "overlap with training", text))
    if results["published"]:
        found.append(_published(results))
    return found


def _scores(results: dict) -> Section:
    text = f"In percent. The 95% intervals come from {RESAMPLES:,} resamples of the questions. The reader's oracle is "
    text += "the share of questions of which a right answer was among the spans that were read."
    header = ["system", "exact match", "95% interval", "reader's oracle", "unanswered"]
    if results["main_minus"]:
        header.append(f"{results['main']} minus this")
    rows = []
    for name, system in results["systems"].items():
        oracle = system["reader_oracle"] or {"mean": None}
        row = [name, percent(system["exact_match"]["mean"]), _ends(system["exact_match"]), percent(oracle["mean"])]
        row.append(f"{system['unanswered']:,}")
        if results["main_minus"]:
            minus = results["main_minus"].get(name)
            row.append(f"{percent(minus['mean'], '+')} ({_ends(minus, '+')})" if minus else "")
        rows.append(tuple(row))
    return _section("Exact match", text, tuple(header), rows)


def _blocks(counts: dict[str, dict]) -> Section:
    text = "In percent, by how many of the retrieved blocks are read: more have more answers, and more distractors."
    rows = []
    for count, of in counts.items():
        exact_match, oracle = of["exact_match"], of["reader_oracle"]
        rows.append((count, percent(exact_match["mean"]), _ends(exact_match), percent(oracle["mean"])))
    header = ("blocks", "exact match", "95% interval", "reader's oracle")
    return _section("By blocks read", text, header, rows, lambda: plots.by_blocks(counts))


def _recall(table: dict) -> Section:
    columns = list(next(iter(table.values())))
    rows = []
    for state, row in table.items():
        cells = [f"{percent(row[name]['mean'])} ± {percent(row[name]['half_width'])}" for name in columns]
        rows.append((state, *cells, f"{row[columns[0]]['n']:,}"))
    text = "Share of questions with an answer in one of the first k blocks, in percent, ± half the 95% interval."
    header = ("state", *columns, "questions")
    return _section("Retrieval", text, header, rows, lambda: plots.recall_curves(table))


def _calibration(value: dict) -> Section:
    text = "How often answers of some probability are right, in percent. Expected calibration error: "
    text += f"{percent(value['expected_error'])} over {value['n']:,} answers with a probability."
    rows = []
    for part in value["bins"]:
        ends = f"{100 * part['low']:.0f}-{100 * part['high']:.0f}"
        rows.append((ends, f"{part['n']:,}", percent(part["confidence"]), percent(part["accuracy"])))
    header = ("probability", "questions", "mean probability", "exact match")
    return _section("Calibration", text, header, rows, lambda: plots.calibration(value["bins"]))


def _by_group(results: dict, key: str, name: str, text: str) -> Section:
    """Exact match of all systems in groups of questions."""
    systems = results["systems"]
    rows = []
    for group, of_main in systems[results["main"]][key].items():
        cells = (percent(system[key][group]["mean"]) for system in systems.values())
        rows.append((group, f"{of_main['n']:,}", *cells))
    return _section(f"By {name}", text, (name, "questions", *systems), rows)


def _published(results: dict) -> Section:
    facts, score = results["facts"], results["systems"][results["main"]]["exact_match"]["mean"]
    source = f"here, on {facts['corpus']}" + (f", {facts['blocks']:,} blocks" if "blocks" in facts else "")
    rows = [(f"ours: {results['main']}", percent(score), source)]
    rows += [(row["system"], f"{row['exact_match']:.1f}", row["source"]) for row in results["published"]]
    return _section("Published beside ours", results["caveat"], ("system", "exact match", "source"), rows)


def _section(
    title: str, text: str, header: tuple[str, ...], rows: list[tuple[str, ...]], draw: Callable[[], str] | None = None
) -> Section:
    """An explanation, a plot if there is one, and a table."""
    return Section(title, [text, *([Figure(draw)] if draw else []), Table(header, rows, WORD_COLUMNS)])


def percent(share: float | None, sign: str = "") -> str:
    """A share for people; a dash where it is not known."""
    return "–" if share is None else f"{100 * share:{sign}.1f}"


def _ends(interval: dict, sign: str = "") -> str:
    return f"{percent(interval['low'], sign)} to {percent(interval['high'], sign)}"
