"""Forms as numbers of words, and where free text begins; the first step of `templates`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.clusters.masks import WILDCARD
from pyflare_analysis.rca.clusters.words import is_function_word, names_follow

__all__ = ["FREE_TEXT", "MAX_WORDS", "Row", "TemplateOptions", "Vocabulary", "open_ends"]

FREE_TEXT = "<...>"
"""What stands for text of any length; `<*>` is one word."""

MAX_WORDS = 64
"""Words of a message that are looked at."""

_VALUE, _FREE = 1, 2  # numbers of `<*>` and `<...>` in the vocabulary
_PREFIX_WORDS = 24
_OPENING_WORDS = 3


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """Limits of the rules. The defaults are the same for every kind of text."""

    max_branches: int = 4
    """Most words at one position that are told apart; more are values of a parameter."""
    max_first_words: int = 12
    """The same for the first word, which is seldom a parameter (He et al., Drain, ICWS 2017)."""
    max_phrases: int = 40
    """Most phrases at one place that are told apart; see `phrase_messages`."""
    phrase_messages: int = 3
    """Least messages for each phrase that is seen among the values of one place."""
    root_share: float = 0.5
    """Least frequency of a root's words, as share of the form's most frequent word."""
    constant_share: float = 0.5
    """Least share of constant positions with which words may be joined to a value by context."""
    open_forms: int = 12
    """Least forms behind a place that opens onto free text."""
    open_share: float = 0.5
    """Least share of distinct forms among the messages there."""
    lengths: int = 3
    """Least different lengths of free text, and of rows of values that are joined."""


Row = tuple[int, ...]
"""A form as the numbers of its words."""


class Vocabulary:
    """The words of all forms, each with a number; what is known of them comes in arrays."""

    def __init__(self) -> None:
        self._numbers = {"": 0, WILDCARD: 1, FREE_TEXT: 2}

    def row(self, form: str) -> Row:
        """Return the numbers of a form's words; an empty form has one, empty word."""
        numbers = self._numbers
        words = form.split()[:MAX_WORDS] or [""]
        return tuple([numbers.setdefault(word, len(numbers)) for word in words])

    def words(self) -> list[str]:
        """Return the words by number."""
        return list(self._numbers)

    def flags(self, test: Callable[[str], bool]) -> NDArray[np.bool_]:
        """Return the outcome of a test of each word."""
        answers = (test(word) for word in self._numbers)
        return np.fromiter(answers, dtype=np.bool_, count=len(self._numbers))

    def masked(self) -> NDArray[np.bool_]:
        """Return which words hold a masked value."""
        return self.flags(lambda word: WILDCARD in word or word == FREE_TEXT)


def open_ends(
    rows: list[Row], counts: Sequence[int], vocabulary: Vocabulary, options: TemplateOptions
) -> list[Row]:
    """Return the forms with the free text at their end as `<...>`."""
    words, lengths = _first_words(rows, vocabulary)
    last = np.array([row[-1] for row in rows])
    messages = np.asarray(counts, dtype=np.float64)
    keep = np.full(len(rows), -1)
    node = np.zeros(len(rows), dtype=np.int64)
    constants = np.zeros(len(rows), dtype=np.int64)
    for depth in range(words.shape[1]):
        going = np.flatnonzero((keep < 0) & (lengths > depth))
        if going.size < options.open_forms:
            break
        at, following = node[going], words[going, depth]
        open_nodes = (
            (np.bincount(at) >= options.open_forms)
            & (np.bincount(at) >= options.open_share * np.bincount(at, messages[going]))
            & (_different(at, following) > 2 * options.max_branches)
            & (_different(at, lengths[going]) >= options.lengths)
            & (_different(at, last[going]) > 2 * options.max_branches)
        )
        opened = open_nodes[at] & (constants[going] >= _OPENING_WORDS)
        keep[going[opened]] = depth
        _, node[going] = np.unique(at * len(vocabulary.words()) + following, return_inverse=True)
        constants[going] += following != _VALUE
    return [
        row if end < 0 else (*row[:end], _FREE)
        for row, end in zip(rows, keep.tolist(), strict=True)
    ]


def _first_words(
    rows: list[Row], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first words of each form, values as one word, and the forms' lengths.

    A name after its noun is a value here already: "tool search_web raised ..." of each tool
    alone would hardly ever be seen often enough.
    """
    lengths = np.array([len(row) for row in rows])
    width = min(_PREFIX_WORDS, int(lengths.max(initial=0)))
    words = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        words[number, : len(row)] = row[:width]
    masked, function = vocabulary.masked()[words], vocabulary.flags(is_function_word)[words]
    noun = vocabulary.flags(names_follow)[words]
    after_noun = np.zeros(len(rows), dtype=np.bool_)
    for depth in range(width):
        value = masked[:, depth] | (after_noun & ~function[:, depth])
        words[value, depth] = _VALUE
        after_noun = noun[:, depth] & ~value
    return words, lengths


def _different(groups: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many different values each group has."""
    span = int(values.max()) + 1
    return np.bincount(np.unique(groups * span + values) // span, minlength=int(groups.max()) + 1)
