"""The table of `rehearsal.py`."""

GROWTH = ("slowest step over that of the smallest corpus", "bytes a block of a trainer", "bytes a block of a searcher")


def markdown(values: dict) -> str:
    rows, last = values["rows"], values["rows"][-1]
    lines = [f"**A rehearsal** ({values['trainers']} trainer and 2 builder processes, ScaNN, a bucket; two cores)", ""]
    lines += [
        "| blocks | step, builders idle, s | builders at work, s | waits for retrieval, s |",
        "|---:|---:|---:|---:|",
    ]
    for row in rows:
        idle, busy = row["step seconds, builders idle"], row.get("step seconds, builders at work", "")
        lines.append(f"| {row['blocks']:,} | {idle} | {busy} | {row['of these, waiting for retrieval']} |")
    columns = ["a trainer", "mapped files", "a searcher", "ScaNN's build, bytes a block"]
    lines += ["", "| blocks, memory in MB | " + " | ".join(columns) + " |", "|---:|" + "---:|" * len(columns)]
    names = ["anonymous MB of a trainer", "mapped MB of a trainer", "anonymous MB of a searcher"]
    for row in rows:
        cells = [f"{row[name]:,.0f}" for name in names]
        build = f"{row['version 0, bytes a block at the peak']:,}" if row is last else ""
        lines.append(f"| {row['blocks']:,} | {' | '.join(cells)} | {build} |")
    lines += ["", *_said(values, last)]
    return "\n".join(lines)


def _said(values: dict, last: dict) -> list[str]:
    builds, between = last["seconds of a build, two builders"], last["seconds between versions"]
    seconds, most = (last[f"eligible rows, {what}"] for what in ("seconds", "MB at the peak"))
    missed = values["did not scale"]
    return [
        f"- From the smallest to the largest corpus: {'; '.join(f'{name} {values[name]}' for name in GROWTH)}. "
        + (f"Beyond its limit: {', '.join(missed)}." if missed else "All are within their limits (1.15, 700, 700)."),
        f"- Beside the training, two builders made the first version in {builds[0]:.0f} s, though the one that joined "
        f"it was killed and the other took over, and the next in {builds[1]:.0f} s; it came {between} s after that.",
        f"- A trainer was killed: the others ended {last['seconds until the other trainers ended']} s later, and the "
        f"same commands went on from step {last['resumed from step']:,}.",
        f"- Which of {last['spans']:,} spans can be masked was found in {seconds} s with {most} MB "
        f"({last['eligible rows, answer elsewhere, seconds']} s and "
        f"{last['eligible rows, answer elsewhere, MB at the peak']} MB with `answer_elsewhere`).",
        f"- The whole rehearsal took {values['minutes']} minutes.",
    ]
