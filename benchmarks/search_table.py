"""The tables of benchmarks/search.py, exact_search.py and index_recall.py."""


def markdown(values: dict) -> str:
    """For each engine its fastest setting that reaches the recall, with the time that its index took to build."""
    blocks, real, wanted = values["blocks"], values["real_blocks"], values["recall_wanted"]
    copies = f", {blocks - real:,} of them copies with noise" if blocks > real else ""
    lines = [
        f"**Searches on one core** ({blocks:,} blocks of {values['dim']} dimensions{copies}; "
        f"{values['queries']:,} {values['queries_are']}; the fastest settings of recall@5 ≥ {wanted})",
        "",
        "| search | settings | recall@5 | queries/s | built in, s |",
        "|---|---|---:|---:|---:|",
    ]
    for row in sorted(values["fastest"].values(), key=lambda row: -row["queries_per_s"]):
        cells = (row["engine"], row["setting"], f"{row['recall_at_5']:.4f}", f"{row['queries_per_s']:,}")
        lines.append(f"| {' | '.join(cells)} | {values['build_s'][row['engine']]} |")
    ratios = [f"{engine} {ratio:.2f}" for engine, ratio in values["over_best_faiss"].items()]
    told = f"Queries/s over those of the fastest index of faiss: {', '.join(ratios)}. " if ratios else ""
    settings = len(values["rows"])
    return "\n".join([*lines, "", f"{told}{settings} settings were measured; the file has them all."])


def exact(values: dict) -> str:
    """A row for each size: seconds of both ways."""
    lines = [
        f"**Exact search beside `lax.top_k` over whole rows of scores** ({values['queries']} queries, "
        f"{values['dim']} dimensions)",
        "",
        "| blocks, type | ours, s | whole rows, s | ratio | memory of whole rows besides the embeddings, GB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in values["rows"]:
        cells = [f"{row['ours_s']:.2f}", f"{row['whole_rows_s']:.2f}", f"{row['ratio']:.2f}"]
        cells.append(f"{row['whole_rows_temporary_bytes'] / 1e9:.1f}")
        lines.append(f"| {row['blocks']:,} {row['dtype']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_share(values: dict) -> str:
    """A row for each search and setting, with the share of the blocks that it scores."""
    lines = [f"**Searches** ({values['blocks']:,} synthetic blocks of {values['dim']} dimensions)", ""]
    lines += ["| search | recall@5 | share of blocks scored | queries/s |", "|---|---:|---:|---:|"]
    for row in values["rows"]:
        settings = [f"{key} {row[key]}" for key in ("leaves_share", "tables", "bits") if key in row]
        label = ", ".join([row["search"], *settings])
        lines.append(
            f"| {label} | {row['recall_at_5']:.3f} | {row['share_scored']:.3f} | {row['queries_per_s']:,.0f} |"
        )
    return "\n".join(lines)
