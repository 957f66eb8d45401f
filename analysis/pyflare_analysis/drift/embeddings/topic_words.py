"""Words that tell the texts of a topic from the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["distinctive_words"]

_WORD = re.compile(r"[^\W\d_][\w'-]+")
_CHARACTERS = 2_000
_LEAST_TEXTS = 2
_PRIOR = 50.0


def distinctive_words(
    texts: Sequence[str | None], members: Iterable[int], *, limit: int = 8
) -> list[str]:
    """Return the words that are more frequent in some texts than in the rest, clearest first.

    Words count once a text, of its first 2,000 characters, and must be in two texts of the
    topic. They are ordered by z, the log odds ratio with a prior worth 50 words in the shares of
    all texts, in units of its standard error; those below 1.96 are left out.

    Args:
        texts: all texts.
        members: indices of the topic's.
        limit: words at most.

    Source: Monroe, Colaresi & Quinn 2008, Political Analysis 16:372-403, equations 16-22.
    """
    inside = set(members)
    ours: Counter[str] = Counter()
    rest: Counter[str] = Counter()
    for index, text in enumerate(texts):
        if text:
            words = {word.casefold() for word in _WORD.findall(text[:_CHARACTERS])}
            (ours if index in inside else rest).update(words)
    candidates = [word for word, count in ours.items() if count >= _LEAST_TEXTS]
    if not candidates:
        return []
    a = np.array([ours[word] for word in candidates], float)
    b = np.array([rest[word] for word in candidates], float)
    total_a, total_b = float(ours.total()), float(rest.total())
    prior = _PRIOR * (a + b) / (total_a + total_b)
    odds_a = np.log((a + prior) / np.maximum(total_a + _PRIOR - a - prior, 1e-9))
    odds_b = np.log((b + prior) / np.maximum(total_b + _PRIOR - b - prior, 1e-9))
    z = (odds_a - odds_b) / np.sqrt(1 / (a + prior) + 1 / (b + prior))
    order = sorted(range(len(candidates)), key=lambda i: (-z[i], candidates[i]))
    return [candidates[i] for i in order[:limit] if z[i] > 1.96]
