"""The language of `--where`.

    condition  = condition "or" condition | condition "and" condition | "not" condition
               | "(" condition ")" | test
    test       = operand ("==" | "=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") (value | operand)
               | operand ["not"] "in" "(" value {"," value} ")"
               | operand "is" ["not"] "null"
               | operand ["not"] ("like" | "contains" | "startswith") text
    operand    = column | `column` | attributes.key | attributes['key']
               | resource_attributes... | scope_attributes...
    value      = 'text' | "text" | number | true | false | duration

`and` binds tighter than `or`. Words of the language may be written in any case. A
quote inside text is doubled or follows a backslash. A duration (`500ms`, `2s`, `1.5h`)
may be compared with columns whose name ends in `_ms`. What a test means is said in
`pyflare_storage.expressions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

from pyflare_proto.errors import ExpressionError
from pyflare_proto.record import COLUMNS
from pyflare_storage.expressions import (
    ATTRIBUTE_COLUMNS,
    And,
    Attribute,
    Column,
    Compare,
    CompareOp,
    Expr,
    In,
    IsNull,
    Match,
    MatchOp,
    Not,
    Operand,
    Or,
    Scalar,
    resolve,
)

__all__ = ["parse_where"]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<duration>\d+(?:\.\d+)?(?:ms|us|s|m|h|d)\b)
      | (?P<number>[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
      | (?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
      | (?P<quoted>`[^`]+`)
      | (?P<name>[A-Za-z_]\w*(?:\.[\w-]+)*)
      | (?P<symbol>==|!=|<>|<=|>=|[=<>()\[\],])
    )""",
    re.VERBOSE | re.DOTALL,
)
_DURATION_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7}
_COMPARISONS = {"==": "==", "=": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">",
                ">=": ">="}  # fmt: skip
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS = {"and", "or", "not", "in", "is", "null", "like", "contains", "startswith", "true", "false"}
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class _Duration:
    """A duration, in milliseconds: a value only beside a column that ends in `_ms`."""

    ms: float
    text: str


def parse_where(text: str, columns: Mapping[str, str] | None = None) -> Expr:
    """Return the condition that a `--where` expression says.

    Args:
        text: the expression; see the module's grammar.
        columns: logical type of each column, by name; the span record's when None.

    Raises:
        ExpressionError: it cannot be read (the message says where), names an unknown
            column (the hint says the nearest), or compares types that do not compare.
    """
    known = {c.name: c.type for c in COLUMNS} if columns is None else columns
    parser = _Parser(text, known)
    return resolve(parser.parse(), known)


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self._text = text
        self._columns = columns
        self._tokens = self._tokenize()
        self._next = 0
        self._depth = 0

    def parse(self) -> Expr:
        expr = self._or()
        if self._peek().kind != "end":
            self._fail("expected `and`, `or` or the end")
        return expr

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        position, end = 0, len(self._text.rstrip())
        while position < end:
            match = _TOKEN.match(self._text, position, end)
            if match is None or match.lastgroup is None:
                rest = self._text[position:].lstrip()
                quote = rest[:1] in {"'", '"'}
                what = "text without its closing quote" if quote else "an unknown character"
                start = len(self._text) - len(rest)
                raise self._error(what, start)
            kind = match.lastgroup
            word = match[kind]
            if kind == "name" and word.lower() in _WORDS:
                kind, word = "word", word.lower()
            tokens.append(_Token(kind, word, match.start(match.lastgroup)))
            position = match.end()
        tokens.append(_Token("end", "", end))
        return tokens

    def _error(self, problem: str, position: int) -> ExpressionError:
        near = self._text[position : position + 20].strip()
        found = f"`{near}`" if near else "the end"
        return ExpressionError(
            f"cannot read --where {self._text!r}: {problem} at position {position + 1}, at {found}",
            hint="""like this: --where "status_code == 'error' and input_tokens > 1000" """.strip(),
        )

    def _fail(self, problem: str) -> NoReturn:
        raise self._error(problem, self._peek().position)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, *texts: str) -> _Token | None:
        token = self._peek()
        if token.kind == kind and (not texts or token.text in texts):
            self._next += 1
            return token
        return None

    def _expect(self, text: str) -> None:
        if self._take("symbol", text) is None:
            self._fail(f"expected `{text}`")

    def _or(self) -> Expr:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail(f"more than {_MAX_DEPTH} levels of parentheses")
        terms = [self._and()]
        while self._take("word", "or"):
            terms.append(self._and())
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _and(self) -> Expr:
        terms = [self._not()]
        while self._take("word", "and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _not(self) -> Expr:
        negated = False
        while self._take("word", "not"):
            negated = not negated
        if self._take("symbol", "("):
            expr = self._or()
            self._expect(")")
        else:
            expr = self._test()
        return Not(expr) if negated else expr

    def _test(self) -> Expr:
        left = self._side()
        if isinstance(left, Operand):
            special = self._word_test(left)
            if special is not None:
                return special
        token = self._take("symbol", *_COMPARISONS)
        if token is None:
            self._fail("expected a comparison, `in`, `is null`, `like`, `contains`, `startswith`")
        op = _COMPARISONS[token.text]
        right = self._side()
        if not isinstance(left, Operand):
            if not isinstance(right, Operand):
                raise self._error("a comparison without a column", token.position)
            left, right, op = right, left, _FLIPPED[op]
        value = right if isinstance(right, Operand) else self._value(right, left, token)
        return Compare(cast("CompareOp", op), left, value)

    def _word_test(self, operand: Operand) -> Expr | None:
        if self._take("word", "is"):
            negated = self._take("word", "not") is not None
            if not self._take("word", "null"):
                self._fail("expected `null`")
            return Not(IsNull(operand)) if negated else IsNull(operand)
        negated = self._take("word", "not") is not None
        token = self._take("word", "in", "like", "contains", "startswith")
        if token is None:
            if negated:
                self._fail("expected `in`, `like`, `contains` or `startswith`")
            return None
        expr: Expr
        if token.text == "in":
            expr = In(operand, self._list(operand, token))
        else:
            text = self._take("text")
            if text is None:
                self._fail(f"expected text in quotes after `{token.text}`")
            expr = Match(cast("MatchOp", token.text), operand, _unquote(text.text))
        return Not(expr) if negated else expr

    def _list(self, operand: Operand, token: _Token) -> tuple[Scalar, ...]:
        self._expect("(")
        values: list[Scalar] = []
        while True:
            side = self._side()
            if isinstance(side, Operand):
                raise self._error("a column in a list of values", token.position)
            values.append(self._value(side, operand, token))
            if not self._take("symbol", ","):
                break
        self._expect(")")
        return tuple(values)

    def _value(self, value: Scalar | _Duration, operand: Operand, at: _Token) -> Scalar:
        if not isinstance(value, _Duration):
            return value
        if isinstance(operand, Column) and operand.name.endswith("_ms"):
            return value.ms
        raise self._error(
            f"the duration {value.text} beside something that is no column in `_ms`", at.position
        )

    def _side(self) -> Operand | Scalar | _Duration:
        token = self._peek()
        self._next += 1
        match token.kind:
            case "text":
                return _unquote(token.text)
            case "number":
                return _number(token.text)
            case "duration":
                number = token.text.rstrip("abcdefghijklmnopqrstuvwxyz")
                return _Duration(
                    float(number) * _DURATION_MS[token.text[len(number) :]], token.text
                )
            case "quoted":
                return Column(token.text[1:-1])
            case "name":
                return self._name(token)
            case "word" if token.text in {"true", "false"}:
                return token.text == "true"
            case "word" if token.text == "null":
                self._next -= 1
                self._fail("a comparison with null (write `is null`)")
        self._next -= 1
        raise self._error("expected a column or a value", token.position)

    def _name(self, token: _Token) -> Operand:
        if token.text in self._columns and not (
            token.text in ATTRIBUTE_COLUMNS and self._peek().text == "["
        ):
            return Column(token.text)
        container, _, key = token.text.partition(".")
        if container in ATTRIBUTE_COLUMNS and container in self._columns:
            if key:
                return Attribute(key, container)
            self._expect("[")
            text = self._take("text")
            if text is None:
                self._fail("expected an attribute's key in quotes")
            self._expect("]")
            return Attribute(_unquote(text.text), container)
        return Column(token.text)


def _number(text: str) -> int | float:
    try:
        number = int(text)
    except ValueError:
        return float(text)
    return number if -(2**63) <= number < 2**63 else float(number)


def _unquote(text: str) -> str:
    quote, body = text[0], text[1:-1].replace(text[0] * 2, text[0])
    # Only quotes are escaped: other backslashes belong to the text (`like '100\%'`).
    return body.replace(f"\\{quote}", quote)
