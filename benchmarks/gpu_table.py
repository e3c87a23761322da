"""The tables of a result of `gpu.py`, of the parts that it has."""

QUERIES = 512  # a step of the paper's


def markdown(values: dict) -> str:
    """Markdown: the device, steps, embedding, search, attention, rounding, and what failed."""
    parts = {name: part.get("rows", []) for name, part in values["parts"].items()}
    ceilings = {key: value for row in parts.get("ceilings", []) for key, value in row.items()}
    rate = ceilings.get("tflop_per_s")
    title = f"**One GPU** ({ceilings.get('device', 'unknown')}"
    if rate and "tb_per_s" in ceilings:
        title += f": a bfloat16 matmul reaches {rate:.0f} TFLOP/s, memory {ceilings['tb_per_s']:.2f} TB/s"
    tables = [
        title + ")",
        _steps([row for name, rows in parts.items() if name.startswith("step") for row in rows], rate),
        _embedding([row for name, rows in parts.items() if name.startswith("embedding") for row in rows]),
        _search(parts.get("search", []), _examples_per_s(parts.get("step_base", []))),
        _attention(parts.get("attention", [])),
        _gradients([row for name, rows in parts.items() if name.startswith("gradients") for row in rows]),
        _failures(values["parts"]),
    ]
    return "\n\n".join(table for table in tables if table)


def _table(head: str, rows: list[str]) -> str:
    if not rows:
        return ""
    columns = head.count("|") - 1
    return "\n".join([head, "|---|" + "---:|" * (columns - 1), *rows])


def _steps(rows: list[dict], rate: float | None) -> str:
    head = "| pre-training step, 8 candidates, 96/288 | batch | examples/s | real wordpieces/s | "
    head += "share of the matmul's rate, all rows | real |"
    lines = []
    for row in rows:
        label = row["model"] + (", checkpointed" if row["checkpointing"] else "")
        label += ", rbg" if row["prng"] == "rbg" else ""
        label += "" if row["attention_dropout"] else ", fused attention"
        if "error" in row:
            lines.append(f"| {label} | {row['batch']} | failed | | | |")
            continue
        shares = [f"{100 * row[key] / rate:.0f}%" if rate else "" for key in ("padded_tflop_per_s", "real_tflop_per_s")]
        lines.append(
            f"| {label} | {row['batch']} | {row['examples_per_s']:,.1f} | {row['real_tokens_per_s']:,.0f} | "
            f"{shares[0]} | {shares[1]} |"
        )
    return _table(head, lines)


def _embedding(rows: list[dict]) -> str:
    lines = [
        f"| {row['model']}, {row['batch']} | {row['blocks_per_s']:,.0f} | {row['device_blocks_per_s']:,.0f} |"
        for row in rows
    ]
    return _table("| embedder, blocks of 288 a batch | blocks/s | the device alone |", lines)


def _search(rows: list[dict], examples_per_s: float | None) -> str:
    lines = []
    for row in rows:
        label = row["search"] + (f", {row['chunk']:,} blocks at once" if "chunk" in row else "")
        share = ""
        if examples_per_s and row["queries"] == QUERIES:
            share = f"{100 * row['seconds'] * examples_per_s / QUERIES:.1f}%"
        lines.append(f"| {label} | {row['queries']} | {1e3 * row['seconds']:,.1f} | {share} |")
    blocks = f"{rows[0]['blocks']:,}" if rows else ""
    return _table(f"| exact search of {blocks} blocks | queries | ms | share of BERT-base's step |", lines)


def _examples_per_s(rows: list[dict]) -> float | None:
    return next((row["examples_per_s"] for row in rows if "examples_per_s" in row), None)


def _attention(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        shown = "failed" if "error" in row else f"{row['ms']:.2f}"
        difference = row.get("difference_of_gradients")
        lines.append(
            f"| {row['attention']} | {row['heads']} of {row['of']} | {shown} | "
            f"{'' if difference is None else f'{difference:.1e}'} |"
        )
    return _table("| attention, forward and backward | heads | ms | gradients differ by |", lines)


def _gradients(rows: list[dict]) -> str:
    lines = [
        f"| {row['model']}, {group} | {error:.1e} |" for row in rows for group, error in row["relative_error"].items()
    ]
    return _table("| gradients in bfloat16 | relative error |", lines)


def _failures(parts: dict) -> str:
    said = [
        f"{name} ({part.get('error') or part['skipped']})"
        for name, part in parts.items()
        if "rows" not in part or "error" in part
    ]
    return "Incomplete: " + "; ".join(said) + "." if said else ""
