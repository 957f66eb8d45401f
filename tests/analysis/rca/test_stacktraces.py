"""Stack traces: the frames of the application, in each language."""

import polars as pl
import pytest

from pyflare_analysis.rca.clusters.stacktraces import (
    frame_lines,
    frames,
    in_app_frames,
    span_stack_traces,
)

PYTHON = """Traceback (most recent call last):
  File "/srv/app/worker.py", line 12, in <module>
    main()
  File "/srv/app/agents/planner.py", line 31, in plan
    answer = client.chat(messages)
  File "/usr/local/lib/python3.11/site-packages/openai/_client.py", line 9, in chat
    raise err
  File "/usr/local/lib/python3.11/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError
openai.RateLimitError: slow down"""

CHAINED = """Traceback (most recent call last):
  File "/srv/app/cache.py", line 3, in get
    return store[key]
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/app/agents/planner.py", line 40, in plan
    raise ValueError("no answer")
ValueError: no answer"""

NODE = """Error: 429 slow down
    at APIError.generate (/app/node_modules/openai/error.js:45:20)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
    at async Planner.plan (/app/src/agents/planner.ts:31:18)
    at async /app/src/server.ts:12:3"""

JAVA = """com.acme.LlmException: no answer
\tat com.acme.agents.Planner.lambda$plan$3(Planner.java:31)
\tat java.base/java.util.Optional.map(Optional.java:260)
\tat org.springframework.web.Filter.doFilter(Filter.java:9)
\tat com.acme.Server$$Lambda$17.handle(Unknown Source)
Caused by: java.io.IOException: reset
\tat com.acme.Http.get(Http.java:5)"""


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (PYTHON, ("agents/planner.py:plan", "app/worker.py:<module>")),
        (CHAINED, ("agents/planner.py:plan",)),
        (NODE, ("agents/planner.ts:Planner.plan", "src/server.ts:<anonymous>")),
        (JAVA, ("com.acme.agents.Planner:lambda$plan", "com.acme.Server$$Lambda:handle")),
        ("", ()),
        ("no stack trace at all", ()),
    ],
    ids=["python", "python chained", "node", "java", "empty", "text"],
)
def test_frames_of_libraries_and_of_the_language_are_passed_over(
    trace: str, expected: tuple[str, ...]
) -> None:
    """Innermost first, without line numbers; chained exceptions by their own rule."""
    assert in_app_frames(trace) == expected


def test_line_numbers_and_the_place_of_installation_do_not_matter() -> None:
    """A deployment moves lines and folders, not the failure."""
    moved = PYTHON.replace("line 31", "line 77").replace("/srv/app", "/home/ada/src/app")

    assert in_app_frames(moved) == in_app_frames(PYTHON)


def test_a_function_that_calls_itself_counts_once() -> None:
    """The depth of a recursion is no property of the failure."""
    line = '  File "/srv/app/tree.py", line 3, in walk\n'

    assert in_app_frames(line * 50) == ("app/tree.py:walk",)


def test_depth_limits_the_frames_from_the_inside() -> None:
    """Further out are only the callers."""
    assert in_app_frames(PYTHON, depth=1) == ("agents/planner.py:plan",)


def test_all_frames_are_there_with_what_they_are() -> None:
    """`frames` keeps libraries and says that they are."""
    found = frames(PYTHON)

    assert [frame.in_app for frame in found] == [False, False, True, True]
    assert found[0].function == "raw_decode"


@pytest.mark.parametrize("trace", [PYTHON, CHAINED, NODE, JAVA])
def test_the_lines_of_a_column_say_the_same(trace: str) -> None:
    """What `frame_lines` keeps is enough, and holds no message."""
    (lines,) = frame_lines(pl.Series([trace])).to_list()

    assert in_app_frames(lines) == in_app_frames(trace)
    assert "slow down" not in lines


def test_a_span_s_events_hold_the_trace_as_json() -> None:
    """Escapes of JSON are undone; spans without an exception have none."""
    import json

    events = [
        json.dumps([{"name": "exception", "attributes": {"exception.stacktrace": PYTHON}}]),
        json.dumps([{"name": "other", "attributes": {}}]),
        None,
    ]

    found = span_stack_traces(pl.Series(events, dtype=pl.String))

    assert found.to_list() == [PYTHON, None, None]
    assert frame_lines(found).to_list()[1:] == ["", ""]
