"""The table of benchmarks/nano.py, and what it means."""


def markdown(values: dict) -> str:
    """A column for each state of REALM's run and for the frozen retriever, with the differences beneath."""
    rows = {
        "plain recall@1": "plain_recall@1",
        "hard recall@1": "hard_recall@1",
        "hard recall@5": "hard_recall@5",
        "answer among the candidates": "answer_retrieved",
        "loss, retrieved blocks": "loss_retrieved",
        "loss, random blocks": "loss_random",
        "loss, null block": "loss_null",
        "retrieval utility": "utility",
    }
    states = values["realm"]["states"]
    frozen = values["frozen"]["states"]["after REALM"]
    lines = ["**Held-out Wikipedia sentences** (`experiments/nano.py`; mean ± half the 95% interval)", ""]
    lines += ["| | " + " | ".join(states) + " | after REALM, retriever frozen | n |", "|---|" + "---:|" * 5]
    for label, key in rows.items():
        cells = [state.get(key) for state in states.values()] + [frozen[key]]
        shown = " | ".join(f"{c['mean']:.3f} ±{c['half_width']:.3f}" if c else "" for c in cells)
        lines.append(f"| {label} | {shown} | {frozen[key]['n']} |")
    return "\n".join([*lines, "", _meaning(values["realm_minus_frozen"])])


def _meaning(difference: dict) -> str:
    """What the table means; tests/test_readme.py holds the sentence on hard recall to the figures."""
    shown = {
        key: f"{difference[key]['mean']:+.3f} ±{difference[key]['half_width']:.3f}"
        for key in ("utility", "plain_recall@1", "hard_recall@1")
    }
    return (
        "Plain: the sentence finds its block; hard: with a salient span masked and the words of its article's title "
        "taken out. Without those words ICT makes both ranks worse; REALM brings the first one back to about the level "
        "of BERT as it was downloaded, and the first five above it. Until REALM the encoder is BERT as it was "
        "downloaded.\n\n"
        "REALM's gain over the frozen retriever, on the same sentences: plain "
        f"recall@1 {shown['plain_recall@1']}, hard recall@1 {shown['hard_recall@1']}, retrieval utility "
        f"{shown['utility']} (n {difference['utility']['n']})."
    )
