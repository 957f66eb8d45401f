"""Error messages of LLM applications with known templates, made from a seed.

The 44 templates are worded like those of the providers, gateways, frameworks and
databases that such applications call. Values are ids, numbers, addresses, names from
short lists, and free text of varying length: what a clusterer has to see through.
"""

# ruff: noqa: E501 - messages are as long as they are

from __future__ import annotations

import random
import string
from collections.abc import Callable

__all__ = ["TEMPLATES", "messages"]

MODELS = (
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3-mini", "claude-sonnet-4-5", "claude-haiku",
    "gemini-flash", "mistral-large", "command-r", "llama-instruct",
)  # fmt: skip
TOOLS = (
    "search_web", "get_weather", "lookup_order", "send_email", "calculator", "run_sql",
    "fetch_page", "create_ticket", "translate", "book_flight",
)  # fmt: skip
REGIONS = ("eastus", "westeurope", "us-east-1", "eu-central-1", "ap-southeast-2")
FIELDS = ("city", "order_id", "query", "amount", "currency", "date", "email", "language")
TABLES = ("documents", "chunks", "sessions", "feedback", "users", "billing_events")
HOSTS = ("api.openai.com", "api.anthropic.com", "redis-cache", "qdrant", "pg-primary", "gateway")
USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")
WORDS = (
    "please", "the", "order", "was", "and", "customer", "refund", "shipping", "address", "sorry",
    "here", "is", "your", "answer", "weather", "today", "sunny", "invoice", "total", "amount",
    "for", "june", "list", "of", "items", "delivered", "late", "return",
)  # fmt: skip

Value = Callable[[random.Random], str]


def _chars(alphabet: str, size: int) -> Value:
    return lambda rng: "".join(rng.choices(alphabet, k=size))


def _choice(values: tuple[str, ...]) -> Value:
    return lambda rng: rng.choice(values)


def _number(low: int, high: int) -> Value:
    return lambda rng: str(rng.randint(low, high))


def _decimal(low: float, high: float, digits: int) -> Value:
    return lambda rng: f"{rng.uniform(low, high):.{digits}f}"


def _text(low: int, high: int) -> Value:
    return lambda rng: " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def _uuid(rng: random.Random) -> str:
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _ip(rng: random.Random) -> str:
    return ".".join(str(rng.randint(1, 254)) for _ in range(4))


def _names(rng: random.Random) -> str:
    return ", ".join(rng.sample(FIELDS, rng.randint(1, 4)))


def _time(rng: random.Random) -> str:
    return (
        f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T"
        f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}Z"
    )


VALUES: dict[str, Value] = {
    "model": _choice(MODELS),
    "tool": _choice(TOOLS),
    "region": _choice(REGIONS),
    "field": _choice(FIELDS),
    "fields": _names,
    "table": _choice(TABLES),
    "host": _choice(HOSTS),
    "user": _choice(USERS),
    "text": _text(3, 12),
    "org": lambda rng: "org-" + _chars(string.ascii_letters + string.digits, 24)(rng),
    "req": lambda rng: "req_" + _chars(string.ascii_lowercase + string.digits, 22)(rng),
    "key": lambda rng: "sk-..." + _chars(string.ascii_letters + string.digits, 4)(rng),
    "uuid": _uuid,
    "hex": _chars("0123456789abcdef", 16),
    "ip": _ip,
    "port": _number(1024, 65535),
    "int": _number(1, 900),
    "big": _number(4000, 200_000),
    "secs": _decimal(0.5, 60, 3),
    "time": _time,
    "path": lambda rng: f"/srv/app/prompts/{rng.choice(FIELDS)}_{rng.randint(1, 40)}.yaml",
    "url": lambda rng: f"https://{rng.choice(HOSTS)}/v1/{rng.choice(TABLES)}?page={rng.randint(1, 99)}",
    "email": lambda rng: f"{rng.choice(USERS)}.{rng.randint(1, 99)}@example.com",
}  # fmt: skip

TEMPLATES = (
    "Rate limit reached for {model} in organization {org} on tokens per min (TPM): Limit {big}, Used {big}, Requested {int}. Please try again in {secs}s.",
    "Rate limit reached for {model} in organization {org} on requests per min (RPM): Limit {int}, Used {int}, Requested {int}. Please try again in {secs}s.",
    "Number of request tokens has exceeded your per-minute rate limit (request_id={req})",
    "You exceeded your current quota, please check your plan and billing details. request {req}",
    "This model's maximum context length is {big} tokens. However, your messages resulted in {big} tokens. Please reduce the length of the messages.",
    "prompt is too long: {big} tokens > {big} maximum",
    "max_tokens: {big} > {big}, which is the maximum allowed number of output tokens for {model}",
    "Request timed out after {secs} seconds (attempt {int} of {int})",
    "Read timed out. (host='{host}', port={port}, read timeout={int})",
    "Deadline of {int}ms exceeded while waiting for first token from {model}",
    "Connection error: could not reach {host}:{port} (connection refused)",
    "Failed to resolve host {host}: temporary failure in name resolution",
    "Connection reset by peer while streaming response {req} from {ip}:{port}",
    "SSL handshake with {host} failed: certificate expired on {time}",
    "502 Bad Gateway from upstream {host} (ray id {hex})",
    "The server is overloaded or not ready yet, retry after {int} seconds",
    "Overloaded: capacity for model {model} in region {region} is exhausted",
    "Expecting value: line {int} column {int} (char {int})",
    "Unterminated string starting at: line {int} column {int} (char {int})",
    "Extra data: line {int} column {int} (char {int})",
    "Could not parse LLM output: {text}",
    "Output parser failed: expected a JSON object with keys {fields} but got: {text}",
    "Missing required field {field} in arguments of tool {tool}",
    "Tool {tool} raised an exception: {text}",
    "Tool {tool} is not registered with agent {user}",
    "Tool {tool} returned no result within {int} ms",
    "Agent stopped after reaching the limit of {int} iterations (run {uuid})",
    "The response was filtered because the prompt triggered the content management policy (id {uuid})",
    "Output blocked by content filter: category {field} severity {int}",
    "Guardrail violation: answer for user {email} contains personal data",
    "Incorrect API key provided: {key}. You can find your API key at {url}.",
    "Token expired at {time} for user {user}, sign in again",
    "User {user} is not allowed to use model {model}",
    "The model `{model}` does not exist or you do not have access to it.",
    "Deployment {model} was not found in region {region}",
    'duplicate key value violates unique constraint "{table}_pkey" DETAIL: Key (id)=({uuid}) already exists.',
    'relation "{table}" does not exist at character {int}',
    "deadlock detected: process {big} waits for ShareLock on transaction {big}; blocked by process {big}",
    "could not connect to server {ip} on port {port}: too many connections for role {user}",
    "Vector dimension error: expected dim: {int}, got {int} in collection {table}",
    "Collection {table} has no index for field {field}",
    "Prompt template {path} lacks the variables {fields}",
    "Budget of team {user} exceeded: spent {secs} USD of {int} USD since {time}",
    "Embedding request for {int} inputs failed with status {int}, batch {uuid} was dropped",
)
"""The wording; each is a cluster of its own."""


def messages(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Return messages and the number of each one's template.

    Args:
        count: how many; templates are drawn with frequencies that fall like 1/rank^0.7.
        seed: of the generator; the same seed gives the same messages.
    """
    rng = random.Random(seed)
    order = list(range(len(TEMPLATES)))
    rng.shuffle(order)
    weights = [1 / (rank + 1) ** 0.7 for rank in range(len(order))]
    parts = [list(string.Formatter().parse(template)) for template in TEMPLATES]
    truth = rng.choices(order, weights, k=count)
    texts = [
        "".join(
            literal + (VALUES[name](rng) if name is not None else "")
            for literal, name, _, _ in parts[number]
        )
        for number in truth
    ]
    return texts, truth
