"""Tables of the product beside others' code: benchmarks/results/pretrain_step.json and embedding.json."""


def step(values: dict) -> str:
    """A line for each model and kind of inputs."""
    lines = ["**One pre-training step beside Hugging Face's REALM classes** (8 candidates, 96/288/384, float32)", ""]
    lines += ["| model, inputs | batch | ours, examples/s | theirs | ratio | our share of the matmul rate | theirs |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for row in values["rows"]:
        rates = f"{row['our_examples_per_s']:.2f} | {row['their_examples_per_s']:.2f} | {row['ratio']:.2f}"
        shares = f"{row['share_of_matmul_rate']:.0%} | {row['their_share_of_matmul_rate']:.0%}"
        lines.append(f"| {row['size']}, {row['row']} | {row['batch']} | {rates} | {shares} |")
    return "\n".join(lines)


def embedding(values: dict) -> str:
    """One line: blocks a second of both."""
    blocks, length = values["blocks"], values["mean_length"]
    lines = [
        f"**Embedding beside sentence-transformers** (MiniLM's shape, {blocks:,} blocks of {length:.0f} wordpieces)"
    ]
    lines += ["", "| ours, blocks/s | theirs | ratio | without their tokenizer | our share of the matmul rate |"]
    lines += ["|---:|---:|---:|---:|---:|"]
    rates = f"{values['our_blocks_per_s']:,.1f} | {values['their_blocks_per_s']:,.1f} | {values['ratio']:.2f}"
    lines.append(f"| {rates} | {values['ratio_without_their_tokenizer']:.2f} | {values['share_of_matmul_rate']:.0%} |")
    return "\n".join(lines)
