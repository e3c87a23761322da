"""An evaluation as it is shown: in a terminal, and in a notebook with the tables and drawings of its report."""

import pytest
from etils import epath

from realm_jax.api.evaluated import Evaluation
from realm_jax.eval import qa_report
from realm_jax.records import Prediction, Question

FACTS = {"dataset": "wq", "split": "test", "corpus": "<i>texts</i>", "questions": 3}


@pytest.fixture
def evaluation() -> Evaluation:
    """Two right answers of three, read from blocks."""
    asked = [Question(str(i), f"What is {i}?", (str(i),)) for i in range(3)]
    answered = [
        Prediction(
            question, "0", i < 2, probability=0.5, oracle=True, blocks=(7,), retrieval_scores=(1.0,), answer_rank=0
        )
        for i, question in enumerate(asked)
    ]
    return Evaluation(epath.Path("W/eval/wq"), qa_report.results({"fine-tuned": answered}, {}, FACTS))


def test_a_line_for_each_system(evaluation):
    assert repr(evaluation).splitlines() == [
        "exact match on 3 questions of wq",
        " 66.7%  fine-tuned",
        "report: W/eval/wq/report.html",
    ]


def test_a_notebook_shows_every_section_of_the_report(evaluation):
    shown = evaluation._repr_html_()
    for title in ("Exact match", "By rank", "Calibration", "By question word", "Published beside ours"):
        assert f"<h4>{title}</h4>" in shown, title
    assert shown.count("<table>") == 5 and shown.count("<svg") == 2 and "<td>66.7</td>" in shown
    assert "<i>texts</i>" not in shown and "&lt;i&gt;texts&lt;/i&gt;" in shown
