"""Templates: what the messages of one kind have in common.

Works on the distinct masked messages ("forms") of one kind of failure. What comes out
depends on the set of forms and on how often each occurs, never on their order. The steps:

1. Free text. A place in the tree of first words where at least `open_forms` forms go on
   with many different words and lengths, and mostly differ from each other, opens onto
   text that no template describes (the output of a model): it becomes `<...>`.
2. Roots. Forms of equally many words are compared position by position. The words that
   belong to one template occur equally often (in forms, and in messages), so a form's
   largest set of words with the same frequency at their positions (at least half of the
   largest frequency) names the group it belongs to: the longest common pattern of Brain
   (Yu et al., "Brain: Log Parsing With Bidirectional Parallel Tree", IEEE TSC 2023).
3. Branches. Within a group a position with more than `max_branches` words is a value, as
   is one whose words are identifiers, or follow a noun that introduces a name ("user
   ada"), or stand beside a masked value that fits them. Any other position splits the
   group, that with the fewest words first; so do words that only come in fixed pairs.
4. Lengths. Templates that differ only in how many values stand in a row, seen with three
   or more lengths, are one; the row becomes `<...>`.

Drain, the usual choice, fixes the number of words and the first words before it compares
at all, and joins what is 40 % alike; `docs/rca-clusters.md` shows where that fails.

Example:
    >>> find_templates(["VM Started", "VM Stopped", "user ada left", "user bob left"])
    ['VM Started', 'VM Stopped', 'user <*> left', 'user <*> left']
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.clusters.masks import WILDCARD
from pyflare_analysis.rca.clusters.vocabulary import (
    FREE_TEXT,
    Row,
    TemplateOptions,
    Vocabulary,
    open_ends,
)
from pyflare_analysis.rca.clusters.words import is_function_word, is_identifier, names_follow

__all__ = ["FREE_TEXT", "VERSION", "TemplateOptions", "find_templates", "template_pattern"]

VERSION = 1
"""Version of the rules; part of every cluster's id."""

_MARKS = "\"'`()[]{},;:.!?"
_VALUES_IN_A_ROW = re.compile(r"<(?:\*|\.\.\.)>(?:[ ,;|]+<(?:\*|\.\.\.)>)+")


def find_templates(
    forms: Sequence[str],
    counts: Sequence[int] | None = None,
    options: TemplateOptions | None = None,
) -> list[str]:
    """Return the template of each form.

    Args:
        forms: distinct masked messages of one kind, any order.
        counts: messages of each form; 1 when None.
        options: limits; the defaults when None.

    Returns:
        One template a form: its words, `<*>` for a value, `<...>` for text of any length.
    """
    options = options or TemplateOptions()
    vocabulary = Vocabulary()
    rows = [vocabulary.row(form) for form in forms]
    counts = counts or [1] * len(forms)
    rows = open_ends(rows, counts, vocabulary, options)
    messages: dict[Row, int] = defaultdict(int)
    for row, count in zip(rows, counts, strict=True):
        messages[row] += count
    templates = _Positions(messages, vocabulary, options).templates()
    joined = _absorbed(_join_lengths(templates, options))
    return [joined[row] for row in rows]


def template_pattern(template: str) -> str:
    """Return the regular expression (without look-around) of the forms that fit a template."""
    words = []
    for word in template.split(" "):
        parts = re.split(r"(<\*>|<\.\.\.>)", word)
        words.append(
            "".join(
                r"\S*" if part == WILDCARD else ".+" if part == FREE_TEXT else re.escape(part)
                for part in parts
            )
        )
    return r"^\s*" + r"\s+".join(words) + r"\s*$"


class _Positions:
    """Forms of each number of words, as a matrix of words."""

    def __init__(
        self, messages: Mapping[Row, int], vocabulary: Vocabulary, options: TemplateOptions
    ) -> None:
        self.rows = list(messages)
        self.messages = np.array(list(messages.values()), dtype=np.int64)
        self.options = options
        self.words = vocabulary.words()
        self.masked = vocabulary.masked()
        self.identifier = vocabulary.flags(is_identifier)
        self.noun = vocabulary.flags(names_follow)
        self.function = vocabulary.flags(is_function_word)
        self.result: dict[Row, str] = {}

    def templates(self) -> dict[Row, str]:
        """Return the template of each form."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            by_length[len(row)].append(number)
        for found in by_length.values():
            numbers = np.array(found)
            matrix = np.array([self.rows[number] for number in found])
            for members in self._roots(matrix, self.messages[numbers]):
                values = np.zeros(matrix.shape[1], dtype=np.bool_)
                self._branch(matrix[members], numbers[members], values)
        return self.result

    def _roots(
        self, matrix: NDArray[np.int64], messages: NDArray[np.int64]
    ) -> list[NDArray[np.int64]]:
        """Return the rows of each group that shares a root.

        Two words have the same frequency when they occur in as many forms and in as many
        messages; one of the two alone is often equal by chance.
        """
        forms, both = np.empty_like(matrix), np.empty_like(matrix)
        scale = len(matrix) + 1
        for position in range(matrix.shape[1]):
            column = matrix[:, position]
            forms[:, position] = np.bincount(column)[column]
            weight = np.bincount(column, messages)[column].astype(np.int64)
            both[:, position] = weight * scale + forms[:, position]
        forms[self.masked[matrix]] = 0
        both[self.masked[matrix]] = 0
        largest = forms.max(axis=1, keepdims=True)
        alike = np.zeros_like(forms)
        for position in range(matrix.shape[1]):
            alike += both == both[:, position : position + 1]
        eligible = (forms > 0) & (forms >= self.options.root_share * largest)
        # The most words first, then the most frequent ones.
        score = np.where(eligible, alike * scale + forms, -1)
        chosen = np.take_along_axis(both, score.argmax(axis=1)[:, None], axis=1)
        root = np.where((both == chosen) & (forms > 0), matrix, -1)
        _, group = np.unique(root, axis=0, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        return np.split(order, np.flatnonzero(np.diff(group.ravel()[order])) + 1)

    def _branch(
        self, matrix: NDArray[np.int64], numbers: NDArray[np.int64], values: NDArray[np.bool_]
    ) -> None:
        """Split a group until each position is one word or a value; `values` are settled."""
        if len(matrix) == 1:
            words = [self.words[word] for word in matrix[0]]
            self.result[self.rows[numbers[0]]] = " ".join(words)
            return
        open_positions: list[tuple[int, int]] = []
        new_values: list[tuple[int, int]] = []
        constants = compared = 0
        for position in range(matrix.shape[1]):
            different = np.unique(matrix[:, position])
            if values[position]:
                compared += 1
            elif len(different) == 1:
                constants += not self.masked[different[0]]
                compared += not self.masked[different[0]]
            else:
                compared += 1
                found = self._is_value(matrix, position, different)
                (new_values if found else open_positions).append((len(different), position))
        if constants < self.options.constant_share * compared:
            # Too little in common to read values off the context.
            open_positions += [p for p in new_values if p[0] <= self.options.max_branches]
        open_positions += self._phrases(matrix, int(self.messages[numbers].sum()), new_values)
        if not open_positions:
            template = " ".join(
                self._word(np.unique(matrix[:, position])) for position in range(matrix.shape[1])
            )
            self.result |= dict.fromkeys((self.rows[number] for number in numbers), template)
            return
        _, chosen = min(open_positions)
        settled = values.copy()
        settled[[position for _, position in new_values if position != chosen]] = True
        for word in np.unique(matrix[:, chosen]):
            rows = matrix[:, chosen] == word
            self._branch(matrix[rows], numbers[rows], settled)

    def _is_value(
        self, matrix: NDArray[np.int64], position: int, different: NDArray[np.int64]
    ) -> bool:
        """Return whether the different words at a position are values of a parameter."""
        limit = self.options.max_branches if position else self.options.max_first_words
        if len(different) > limit:
            return True
        if self.masked[different].any():
            return self._fits_masked(different)
        if not position:
            return False
        named = self.noun[matrix[:, position - 1]].all() and not self.function[different].any()
        identifiers = int(self.identifier[different].sum())
        return bool(named) or 2 * identifiers >= len(different)

    def _phrases(
        self, matrix: NDArray[np.int64], messages: int, values: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Return the positions among values whose words go together: `quota exceeded`, ...

        Two parameters vary on their own. Where each word at one position comes with one word
        at another, and most come again, they are the wording of different messages.
        """
        free = [
            (count, position)
            for count, position in values
            if count <= self.options.max_phrases
            and count * self.options.phrase_messages <= messages
            and not self._named(matrix, position)
        ]
        return [
            (count, position)
            for count, position in free
            if any(
                other != position and count == size == _pairs(matrix, position, other)
                for size, other in free
            )
        ]

    def _named(self, matrix: NDArray[np.int64], position: int) -> bool:
        """Return whether the words at a position are masked, or names by their look or place."""
        words = np.unique(matrix[:, position])
        behind_noun = bool(position) and bool(self.noun[matrix[:, position - 1]].all())
        look = self.masked[words].any() or 2 * int(self.identifier[words].sum()) >= len(words)
        return behind_noun or bool(look)

    def _fits_masked(self, different: NDArray[np.int64]) -> bool:
        """Return whether all words could be a masked one's: `()` and `(<*>)`, not `x=<*>`, `y=<*>`.

        Marks around a word do not count.
        """
        words = [self.words[word].strip(_MARKS) for word in different]
        for word in words:
            head, found, rest = word.partition(WILDCARD)
            tail = rest.rpartition(WILDCARD)[2]
            if found and all(other.startswith(head) and other.endswith(tail) for other in words):
                return True
        return FREE_TEXT in words

    def _word(self, different: NDArray[np.int64]) -> str:
        """Return one word of the template: what the words at a position share around a value."""
        words: list[str] = sorted(self.words[word] for word in different)
        if len(words) == 1:
            return words[0]
        if FREE_TEXT in words:
            return FREE_TEXT
        shared = _common_prefix(words).partition(WILDCARD)[0]
        head = shared[: 1 + max(shared.rfind(mark) for mark in "=:([{\"'`")]
        endings = [word[len(head) :][::-1] for word in words]
        tail = re.search(r"[)\]}\"'`,;:.]*$", _common_prefix(endings)[::-1])
        return f"{head}{WILDCARD}{tail.group() if tail else ''}"


def _pairs(matrix: NDArray[np.int64], first: int, second: int) -> int:
    """Return how many different pairs of words stand at two positions."""
    return len(np.unique(matrix[:, [first, second]], axis=0))


def _join_lengths(templates: dict[Row, str], options: TemplateOptions) -> dict[Row, str]:
    """Return the templates with those joined that differ in the length of a row of values."""
    alike: dict[str, set[str]] = defaultdict(set)
    for template in set(templates.values()):
        alike[_collapsed(template)].add(template)
    joined: dict[str, str] = {}
    for members in alike.values():
        lengths = {len(template.split()) for template in members}
        free = any(FREE_TEXT in template for template in members)
        if len(lengths) >= options.lengths or (free and len(members) > 1):
            longest = max(members, key=lambda t: (FREE_TEXT in t, len(t.split()), t))
            whole = _VALUES_IN_A_ROW.sub(FREE_TEXT, longest)
            joined |= dict.fromkeys(members, whole)
    return {form: joined.get(template, template) for form, template in templates.items()}


def _absorbed(templates: dict[Row, str]) -> dict[Row, str]:
    """Return the templates; those that fit one with free text are that one."""
    narrow = set(templates.values())
    wide = sorted((t for t in narrow if FREE_TEXT in t), key=lambda t: (-len(t), t))
    taken: dict[str, str] = {}
    for template in wide:
        pattern = re.compile(template_pattern(template))
        found = [t for t in narrow if t != template and pattern.match(t)]
        taken |= dict.fromkeys(found, template)
        narrow.difference_update(found)
    return {form: taken.get(template, template) for form, template in templates.items()}


def _collapsed(template: str) -> str:
    return _VALUES_IN_A_ROW.sub(WILDCARD, template).replace(FREE_TEXT, WILDCARD)


def _common_prefix(texts: Sequence[str]) -> str:
    """Return the characters that all texts begin with."""
    first: str = min(texts)
    last: str = max(texts)
    end = 0
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return first[:end]
