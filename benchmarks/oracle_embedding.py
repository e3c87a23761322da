"""The other side of `embedding.py`: sentence-transformers, in a Python environment of its own.

    python oracle_embedding.py MODEL TEXTS.json OUT.npy THREADS

For each number on stdin it encodes all texts in batches of that size, keeps the embeddings in OUT.npy, and answers with
the seconds that it took; for 0 it only runs the tokenizer, in batches of 32. It imports nothing of ours.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def main() -> None:
    folder, texts_file, out, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model, texts = SentenceTransformer(folder, device="cpu"), json.loads(Path(texts_file).read_text())
    for line in sys.stdin:
        batch, started = int(line), time.perf_counter()
        if batch:
            embeddings = model.encode(texts, batch_size=batch, show_progress_bar=False)
        else:
            for start in range(0, len(texts), 32):
                model.tokenize(texts[start : start + 32])
        took = time.perf_counter() - started
        if batch:
            np.save(out, embeddings)
        print(took, flush=True)


if __name__ == "__main__":
    main()
