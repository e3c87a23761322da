"""Batches of sequences of similar length, so that little padding is computed and few shapes are compiled."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int


def length_batches(
    lengths: Int[np.ndarray, " sequences"], *, batch_tokens: int, step: int, most: int, devices: int
) -> Iterator[tuple[Int[np.ndarray, " batch"], int, int]]:
    """Yields (sequences, rows, length) of each batch, shortest sequences first; every sequence is in one batch.

    Args:
        batch_tokens: about how many positions a batch has, including its padding.
        step: padded lengths are multiples of it.
        most: the longest padded length; the caller cuts longer sequences.
        devices: how many devices share the rows equally; a batch may have fewer sequences than rows.
    """
    order = np.argsort(lengths, kind="stable")
    done = 0
    while done < len(order):
        rows, length = _shape(lengths, order, done, batch_tokens, step, most, devices)
        yield order[done : done + rows], rows, length
        done += rows


def _shape(
    lengths: np.ndarray, order: np.ndarray, done: int, batch_tokens: int, step: int, most: int, devices: int
) -> tuple[int, int]:
    """Finds (rows, length) of the next batch: the length alone decides the rows, except in the last batch."""

    def padded(i: int) -> int:
        return min(most, -(-int(lengths[order[i]]) // step) * step)

    length = padded(done)
    while True:
        rows = max(1, batch_tokens // length // devices) * devices
        longest = padded(min(done + rows, len(order)) - 1)
        if longest <= length:
            left = -(-(len(order) - done) // devices)
            return min(rows, devices * (1 << (left - 1).bit_length())), length
        length = longest
