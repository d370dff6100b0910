"""Compiled loops of n-gram extraction: texts as UTF-8 bytes to 64-bit keys, keys to ids; see docs/formats.md, "n-grams"."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import OPTIONS

LETTER, SPACE, PUNCTUATION = 0, 1, 2
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# FNV-1a of the boundary markers, "^" and "$s".
_START, _END = np.uint64(0xAF64134C86024A01), np.uint64(0x07B83D07B4839440)


@numba.njit(inline="always")
def _mix(value: Any) -> Any:
    """The finaliser of SplitMix64; 0 marks an empty place of a table, so it becomes 1."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    value = value ^ (value >> np.uint64(31))
    return value if value != np.uint64(0) else np.uint64(1)


@numba.njit(inline="always")
def _pair(first: Any, second: Any) -> Any:
    return _mix(first * _GOLDEN + second)


@numba.njit(**OPTIONS)
def extract(data: Any, offsets: Any, classes: Any, bigrams: bool, most: int, keys: Any, counts: Any) -> int:
    """Keys of the n-grams of texts, in the order of `ngrams`.

    Args:
        data: UTF-8 bytes of all texts; A to Z are lower-cased here.
        offsets: `(texts + 1,)` text i is `data[offsets[i]:offsets[i + 1]]`.
        classes: `(256,)` LETTER, SPACE or PUNCTUATION of each byte; punctuation is a word by itself.
        bigrams: Whether there are bigrams beside the unigrams.
        most: Words read of a text.
        keys: Written: room for 2 * bytes + 1 keys a text.
        counts: Written: `(texts,)` n-grams of each text.

    Returns:
        How many keys were written.
    """
    total = 0
    for text in range(counts.shape[0]):
        begin, place, stop = total, offsets[text], offsets[text + 1]
        before = _START
        words = 0
        while words < most:
            while place < stop and classes[data[place]] == SPACE:
                place += 1
            if place == stop:
                break
            word = _OFFSET
            alone = classes[data[place]] == PUNCTUATION
            first = place
            while place < stop and (place == first or (not alone and classes[data[place]] == LETTER)):
                byte = np.uint64(data[place])
                if np.uint64(65) <= byte <= np.uint64(90):
                    byte += np.uint64(32)
                word = (word ^ byte) * _PRIME
                place += 1
            if bigrams:
                keys[total] = _pair(before, word)
                total += 1
            keys[total] = _mix(word)
            total += 1
            before = word
            words += 1
        if bigrams and words:
            keys[total] = _pair(before, _END)
            total += 1
        counts[text] = total - begin
    return total


@numba.njit(**OPTIONS)
def add_to_sums(keys: Any, shift: int, sums: Any) -> None:
    """Count keys by their first bits.

    Args:
        keys: Any number of them.
        shift: How many bits of a key are not among the first.
        sums: `(2 ** (64 - shift),)` uint32, to which 1 is added for every key that begins with the bits of the place; it stops at
            the largest number.
    """
    for key in keys:
        place = key >> np.uint64(shift)
        if sums[place] != np.uint32(0xFFFFFFFF):
            sums[place] += np.uint32(1)


@numba.njit(**OPTIONS)
def fill_table(keys: Any, table: Any, ids: Any) -> int:
    """Put keys into a hash table with linear probing; a key's id is its position.

    Args:
        keys: `(entries,)`.
        table: `(2 ** k,)` zeros, more than there are entries.
        ids: `(2 ** k,)`.

    Returns:
        The position of a key that occurs a second time, -1 where none does.
    """
    mask = np.uint64(table.shape[0] - 1)
    for position in range(keys.shape[0]):
        place = keys[position] & mask
        while table[place] != np.uint64(0):
            if table[place] == keys[position]:
                return position
            place = (place + np.uint64(1)) & mask
        table[place], ids[place] = keys[position], position
    return -1


@numba.njit(**OPTIONS)
def count(
    keys: Any, counts: Any, before: int, sums: Any, shift: int, least: int, table: Any, ids: Any, entries: int,
    known: Any, times: Any, first: Any,
) -> int:  # fmt: skip
    """Count keys one by one, of those alone whose sum reaches `least`.

    Args:
        keys: Of all texts, one after another.
        counts: `(texts,)` keys of each text.
        before: Texts before these.
        sums: From `add_to_sums`.
        shift: As there.
        least: See above.
        table: From `fill_table`, with room for all keys; new ones are put in.
        ids: From `fill_table`.
        entries: How many keys the table has.
        known: Written: keys by id.
        times: Added to: by id.
        first: Written: `(keys, 2)` by id, the text in which a key is first, and its place there.

    Returns:
        How many keys the table has now.
    """
    mask = np.uint64(table.shape[0] - 1)
    read = 0
    for text in range(counts.shape[0]):
        for number in range(counts[text]):
            key = keys[read + number]
            if sums[key >> np.uint64(shift)] < least:
                continue
            place = key & mask
            while table[place] != key and table[place] != np.uint64(0):
                place = (place + np.uint64(1)) & mask
            if table[place] != key:
                table[place], ids[place], known[entries] = key, entries, key
                first[entries, 0], first[entries, 1] = before + text, number
                entries += 1
            times[ids[place]] += 1
        read += counts[text]
    return entries


@numba.njit(**OPTIONS)
def look_up(keys: Any, counts: Any, table: Any, ids: Any, out: Any, kept: Any) -> int:
    """Ids of keys that the table holds; the others are left out.

    Args:
        keys: Of all texts, one after another.
        counts: `(texts,)` keys of each text.
        table: From `fill_table`.
        ids: From `fill_table`.
        out: Written: ids, text after text.
        kept: Written: `(texts,)` ids of each text.

    Returns:
        How many ids were written.
    """
    mask = np.uint64(table.shape[0] - 1)
    total = read = 0
    for text in range(counts.shape[0]):
        begin = total
        for key in keys[read : read + counts[text]]:
            place = key & mask
            while table[place] != key and table[place] != np.uint64(0):
                place = (place + np.uint64(1)) & mask
            if table[place] == key:
                out[total] = ids[place]
                total += 1
        read += counts[text]
        kept[text] = total - begin
    return total


@numba.njit(**OPTIONS)
def entry_keys(data: Any, offsets: Any, keys: Any) -> None:
    """Keys of n-grams given as text: two words have one space between them.

    Args:
        data: UTF-8 bytes of all n-grams.
        offsets: `(entries + 1,)`.
        keys: Written: `(entries,)`.
    """
    for entry in range(keys.shape[0]):
        word = before = _OFFSET
        pair = False
        for place in range(offsets[entry], offsets[entry + 1]):
            if data[place] == 32:
                before, word, pair = word, _OFFSET, True
            else:
                word = (word ^ np.uint64(data[place])) * _PRIME
        keys[entry] = _pair(before, word) if pair else _mix(word)
