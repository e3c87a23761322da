"""An evaluation on questions, from the files of its report: scores by system, and the answers one by one."""

import html
from dataclasses import dataclass

from etils import epath

from realm_jax import report
from realm_jax.config import ConfigError
from realm_jax.eval import qa_tables
from realm_jax.inference import fragments
from realm_jax.inference.results import Results, short
from realm_jax.workdir import Workdir, read_json, read_json_lines


@dataclass(frozen=True, repr=False)
class Predicted:
    """An answer of the run beside the right ones."""

    question: str
    answers: tuple[str, ...]
    """What counts as right: strings, or regular expressions."""
    prediction: str
    is_correct: bool
    probability: float | None
    """Probability of the span among all spans of all blocks that were read; None if it is not known."""

    def __repr__(self) -> str:
        return short(f"{self._judged}  {self.prediction}  |  {self.question}")

    def html(self) -> str:
        """The prediction, whether it is right, and the question."""
        texts = (html.escape(text) for text in (self.prediction, self.question, self._judged))
        return "<p><mark>{}</mark> {} <span class=muted>{}</span></p>".format(*texts)

    @property
    def _judged(self) -> str:
        return "right" if self.is_correct else f"wrong (right: {' or '.join(self.answers) or 'not known'})"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores on a question set, from the folder of its report."""

    folder: epath.Path
    """Has report.html, report.md, results.json and predictions.jsonl."""
    results: dict
    """As in results.json: shares from 0 to 1, with their 95% intervals."""

    @property
    def exact_match(self) -> dict[str, float]:
        """Share of the questions that are answered right, by system; the fine-tuned run comes first."""
        return {name: system["exact_match"]["mean"] for name, system in self.results["systems"].items()}

    @property
    def predictions(self) -> Results[Predicted]:
        """The run's answer to each question, in their order."""
        lines, _ = read_json_lines(self.folder / "predictions.jsonl")
        return Results(
            Predicted(
                line["question"], tuple(line["answers"]), line["prediction"], line["is_correct"], line["probability"]
            )
            for line in lines
        )

    def __repr__(self) -> str:
        facts = self.results["facts"]
        lines = [f"{100 * share:5.1f}%  {name}" for name, share in self.exact_match.items()]
        header = f"exact match on {facts['questions']:,} questions of {facts['dataset']}"
        return "\n".join([header, *lines, f"report: {self.folder / 'report.html'}"])

    def _repr_html_(self) -> str:
        sections = qa_tables.sections(self.results)
        parts = (f"<h4>{html.escape(section.title)}</h4>{report.parts_as_html(section.parts)}" for section in sections)
        return fragments.alone("".join(parts))


def read(workdir: Workdir, name: str = "") -> Evaluation:
    """Opens an evaluation that was made before.

    Args:
        name: name of its folder in `eval/`; the newest by default.

    Raises:
        ConfigError: there is none.
    """
    files = sorted(workdir.path.glob("eval/*/results.json"), key=lambda file: file.stat().mtime)
    chosen = [file for file in files if name in ("", file.parent.name)]
    if not chosen:
        known = ", ".join(file.parent.name for file in files) or "none"
        how = f"run realm eval --workdir={workdir.path}"
        raise ConfigError(f"{workdir.path} has no evaluation {name or 'yet'} (it has: {known}): {how}")
    return Evaluation(chosen[-1].parent, read_json(chosen[-1]))
