"""Templates: the same wording is one, another wording is another, whatever the order."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_analysis.rca.clusters.templates import (
    FREE_TEXT,
    TemplateOptions,
    find_templates,
    template_pattern,
)

TOOLS = ("search", "weather", "orders", "refund", "mail", "calendar")


def test_words_that_seldom_vary_are_wording_and_others_are_values() -> None:
    """Four words at one place are told apart, five are values (the default limit)."""
    few = [f"VM {word} after migration" for word in ("Started", "Stopped", "Paused", "Resumed")]
    many = [f"lock held by {name} too long" for name in ("ada", "bob", "eve", "joe", "sam")]

    assert find_templates(few) == few
    assert set(find_templates(many)) == {"lock held by <*> too long"}
    wider = TemplateOptions(max_branches=5)
    assert find_templates(many, options=wider) == many


def test_a_name_behind_its_noun_is_a_value_from_two_on() -> None:
    """`tool search` and `tool weather` differ in the tool; `tool is` goes on with a sentence."""
    forms = ["tool search gave up", "tool weather gave up", "tool is gone"]

    assert find_templates(forms) == ["tool <*> gave up", "tool <*> gave up", "tool is gone"]


def test_identifiers_are_values_and_types_of_exceptions_are_not() -> None:
    """`read_timeout` and `max_tokens` name things; two exceptions are two failures."""
    settings_ = ["option says read_timeout here", "option says max_tokens here"]
    errors = ["the call raised a ValueError here", "the call raised a KeyError here"]

    assert set(find_templates(settings_)) == {"option says <*> here"}
    assert find_templates(errors) == errors


def test_templates_of_equal_length_that_share_words_stay_apart() -> None:
    """Drain joins these two, which are 70 % alike."""
    forms = [
        f"Rate limit reached for {model} on {unit} per min: Limit <*>"
        for model in TOOLS
        for unit in ("tokens", "requests")
    ]

    assert set(find_templates(forms)) == {
        "Rate limit reached for <*> on tokens per min: Limit <*>",
        "Rate limit reached for <*> on requests per min: Limit <*>",
    }


def test_lists_of_different_lengths_are_one_template() -> None:
    """One to four names in a row, each length with more than four of them."""
    rng = random.Random(1)
    forms = {
        f"prompt lacks the fields {', '.join(rng.sample(TOOLS, size))} in line <*>"
        for size in (1, 2, 3, 4)
        for _ in range(40)
    }

    assert set(find_templates(sorted(forms))) == {
        f"prompt lacks the fields {FREE_TEXT} in line <*>"
    }


def free_text(count: int, seed: int = 1) -> list[str]:
    """Return messages that end in what a model wrote."""
    rng = random.Random(seed)
    words = "sure here is the answer you asked about please let me know if more helps".split()
    return [
        f"Could not parse LLM output: {' '.join(rng.choices(words, k=rng.randint(2, 12)))}"
        for _ in range(count)
    ]


def test_free_text_at_the_end_is_one_template() -> None:
    """Texts of any length behind the same words, hardly one seen twice."""
    assert set(find_templates(sorted(set(free_text(60))))) == {
        f"Could not parse LLM output: {FREE_TEXT}"
    }


REASONS = (
    *("quota exceeded", "connection refused", "key invalid", "model overloaded", "stream closed"),
    *("body empty", "host unreachable", "certificate expired", "payload truncated"),
)


def test_phrases_that_come_again_are_wording() -> None:
    """Nine reasons behind one prefix: their two words only come together, and again."""
    forms = [f"Error code <*> from upstream call - {reason}" for reason in REASONS]

    assert find_templates(forms, [50] * len(forms)) == forms


def test_two_parameters_vary_on_their_own_and_stay_values() -> None:
    """Nine users times nine teams, however often each comes."""
    forms = [f"user u{a}x of crew c{b}x was sent home" for a in "abcdefghi" for b in "abcdefghi"]

    assert len(set(find_templates(forms, [50] * len(forms)))) == 1


def test_a_rare_form_joins_the_free_text_that_it_fits() -> None:
    """A form of a length that was seen once only is no cluster of its own."""
    forms = sorted({*free_text(60), "Could not parse LLM output: " + "word " * 40})

    assert len(set(find_templates(forms))) == 1


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_forms_does_not_matter(rng: random.Random) -> None:
    """Any permutation gives every form the same template."""
    forms = sorted({*free_text(40), *(f"user {t} left" for t in TOOLS), "VM up", "VM down", ""})
    counts = [1 + number % 7 for number in range(len(forms))]
    expected = dict(zip(forms, find_templates(forms, counts), strict=True))
    order = rng.sample(range(len(forms)), len(forms))

    found = find_templates([forms[i] for i in order], [counts[i] for i in order])

    assert dict(zip([forms[i] for i in order], found, strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab<*>:= .", max_size=12), max_size=25, unique=True))
def test_every_form_fits_its_template(forms: list[str]) -> None:
    """Whatever the text: one template a form, and the form matches it."""
    for form, template in zip(forms, find_templates(forms), strict=True):
        assert re.match(template_pattern(template), form), (form, template)


@pytest.mark.parametrize(
    ("template", "form", "fits"),
    [
        ("user <*> left", "user ada left", True),
        ("user <*> left", "user ada king left", False),
        ("said <...>", "said a b c", True),
        ("rhost=<*> (x)", "rhost= (x)", True),
        ("a.b failed", "aXb failed", False),
    ],
)
def test_a_pattern_takes_one_word_or_any_text(template: str, form: str, *, fits: bool) -> None:
    """`<*>` is one word, `<...>` is text; the rest stands for itself."""
    assert bool(re.match(template_pattern(template), form)) is fits


def test_no_forms_give_no_templates() -> None:
    """Nothing in, nothing out; an empty message is a form."""
    assert find_templates([]) == []
    assert find_templates([""]) == [""]
