"""The loops of `BandIndex`, compiled: what lists promise, and the best of what is in them.

Sums of products are of whole numbers, so their order does not matter: all processors give the same bits. What a list
promises is a sum of floats in the order that a processor likes best; its last bit could only change which list is the
last to be read.
"""

import numpy as np
from numba import njit

from recsys.filtering import is_eligible


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})  # as in `features.products`
def promises(mean: np.ndarray, reach: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The most that each list may hold: q . mean + |q| reach.

    Args:
        mean: float32 [l, d]. reach: float32 [l]. vector: float32 [d].
    Returns:
        float32 [l].
    """
    length = np.float32(0)
    for place in range(len(vector)):
        length += vector[place] * vector[place]
    length = np.sqrt(length)
    promise = np.empty(len(mean), np.float32)
    for one in range(len(mean)):
        total = np.float32(0)
        for place in range(len(vector)):
            total += mean[one, place] * vector[place]
        promise[one] = total + reach[one] * length
    return promise


@njit(cache=True)
def best(
    query: np.ndarray,
    unit: float | np.floating,
    promise: np.ndarray,
    start: np.ndarray,
    codes: tuple[np.ndarray, np.ndarray, np.ndarray],
    fresh: tuple[np.ndarray, np.ndarray, np.ndarray],
    eligible: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The k eligible rows of the largest products, best first, and these; -1 and 0 where there are fewer.

    The list that promises most is next, until none promises more than the k-th best product.

    Args:
        query: int16 [d], the vector over `unit`. promise: float32 [l]. start: int64 [l + 1].
        codes, fresh: code int8 [n, d], scale float32 [n] and row int32 [n], as in `BandIndex`.
    Returns:
        int32 [k], float32 [k].
    """
    product, row = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int32)
    _read(*fresh, query, unit, eligible, product, row)
    code, scale, number = codes
    left = len(promise)
    key, waiting = -promise, np.arange(left)
    for place in range(left // 2 - 1, -1, -1):
        _sink(key, waiting, place, left)
    while left and -key[0] > product[0]:
        own = slice(start[waiting[0]], start[waiting[0] + 1])
        _read(code[own], scale[own], number[own], query, unit, eligible, product, row)
        left -= 1
        key[0], waiting[0] = key[left], waiting[left]
        _sink(key, waiting, 0, left)
    for last in range(k - 1, 0, -1):  # the least goes behind the others
        product[0], product[last] = product[last], product[0]
        row[0], row[last] = row[last], row[0]
        _sink(product, row, 0, last)
    for place in range(k):
        if row[place] < 0:
            product[place] = 0
    return row, product


@njit(cache=True)
def _read(
    code: np.ndarray,
    scale: np.ndarray,
    number: np.ndarray,
    query: np.ndarray,
    unit: float | np.floating,
    eligible: np.ndarray,
    product: np.ndarray,
    row: np.ndarray,
) -> None:
    """Take what is better than the least of `product` and eligible into the heap of `product` and `row`."""
    # In three loops, since LLVM makes vpmaddwd, 16 products at a time, only of a sum that is stored as the whole number
    # that it is: 9 and 17 ns a vector of 64 and 128, against 15 and 30 with the comparison in the same loop.
    whole = np.empty(len(code), np.int32)
    for one in range(len(code)):
        values, total = code[one], np.int32(0)
        for place in range(len(query)):
            total += np.int32(values[place]) * np.int32(query[place])
        whole[one] = total
    found = np.empty(len(code), np.float32)
    for one in range(len(code)):
        found[one] = np.float32(whole[one]) * scale[one] * unit
    least = product[0]
    for one in range(len(code)):
        if found[one] > least and is_eligible(eligible, number[one]):
            product[0], row[0] = found[one], number[one]
            _sink(product, row, 0, len(product))
            least = product[0]


@njit(cache=True)
def _sink(key: np.ndarray, value: np.ndarray, place: int, size: int) -> None:
    """Bring the heap of the first `size` keys, least first, in order again below one place; values move along."""
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and key[child + 1] < key[child]:
            child += 1
        if key[child] >= key[place]:
            return
        key[child], key[place] = key[place], key[child]
        value[child], value[place] = value[place], value[child]
        place = child
