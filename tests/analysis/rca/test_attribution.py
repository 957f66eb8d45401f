"""Attribution: the change is split exactly, the slice that changed is named, noise is not."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.rca.attribution.answer import Attribution, AttributionConfig
from pyflare_analysis.rca.attribution.search import leaf_evidence, wander_of
from pyflare_analysis.rca.attribution.sources import TableChange, attribute_spans, attribute_table
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError
from pyflare_storage.source import open_source
from tests.shared_data import shared_path
from tests.span_rows import START_NS, span, write_spans


def attribute(
    path: Path, frame: pl.DataFrame, at: object = 10, count: str | None = "n", **config: object
) -> Attribution:
    """Return the answer over a table with a column `t` of times."""
    frame.write_parquet(path / "t.parquet")
    change = TableChange("t", str(at), "bad", count)
    with open_source(path / "t.parquet") as source:
        return attribute_table(
            source,
            change,
            config=AttributionConfig(**config),  # type: ignore[arg-type]  # as given
        )


def minutes(
    rates: dict[tuple[str, str], float], n: int = 500, seed: int = 0, **after: float
) -> pl.DataFrame:
    """Return eleven minutes of calls by place and kind; the last one has its own rates."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(11):
        for (place, kind), rate in rates.items():
            factor = after.get(place, after.get(kind, 1.0)) if t == 10 else 1.0
            bad = int(rng.binomial(n, min(rate * factor, 1.0)))
            rows.append({"t": t, "place": place, "kind": kind, "bad": bad, "n": n})
    return pl.DataFrame(rows)


GRID = {(place, kind): 0.02 for place in ("eu", "us", "asia", "af") for kind in ("a", "b", "c")}


@pytest.mark.parametrize(
    ("slice_", "after"),
    [({"place": "us"}, {"us": 6.0}), ({"kind": "b"}, {"b": 4.0})],
    ids=["place", "kind"],
)
def test_the_slice_that_changed_is_the_first_cause(
    tmp_path: Path, slice_: dict[str, str], after: dict[str, float]
) -> None:
    """Not its parts, and it explains the change."""
    answer = attribute(tmp_path, minutes(GRID, **after))

    (cause,) = answer.causes
    assert dict(cause.definition) == slice_
    assert cause.kind == "rate"
    assert cause.explanatory_power == pytest.approx(1.0, abs=0.15)
    assert cause.rate_effect == pytest.approx(answer.change, rel=0.15)


def test_two_causes_at_once(tmp_path: Path) -> None:
    """Two values of one dimension that changed are two causes."""
    answer = attribute(tmp_path, minutes(GRID, us=6.0, asia=5.0))

    assert [dict(cause.definition) for cause in answer.causes] == [
        {"place": "us"},
        {"place": "asia"},
    ]


def test_a_change_of_everything_is_no_slice(tmp_path: Path) -> None:
    """Where all rates grew alike the cause has no conditions."""
    answer = attribute(tmp_path, minutes(GRID, a=5.0, b=5.0, c=5.0))

    (cause,) = answer.causes
    assert dict(cause.definition) == {}
    assert cause.explanatory_power == pytest.approx(1.0)


def test_noise_has_no_cause(tmp_path: Path) -> None:
    """Twenty quiet tables: none names a cause."""
    assert not [s for s in range(20) if attribute(tmp_path, minutes(GRID, seed=s)).causes]


def test_a_slice_that_was_always_worse_is_no_cause(tmp_path: Path) -> None:
    """Thin leaves of a bad slice take their rate before from the whole, which changed nothing."""
    rng = np.random.default_rng(8)
    n = 12_000
    place = rng.choice(5, n, p=[0.05, 0.2, 0.25, 0.25, 0.25])
    bad = rng.random(n) < np.where(place == 0, 0.5, 0.02)
    frame = pl.DataFrame(
        {
            "t": np.arange(n),
            "place": [f"p{code}" for code in place],
            "kind": [f"k{code}" for code in rng.integers(0, 30, n)],
            "bad": bad.astype(np.int64),
            "n": np.ones(n, np.int64),
        }
    )

    assert attribute(tmp_path, frame, at=n // 2).causes == ()


def test_the_split_is_exact_by_hand(tmp_path: Path) -> None:
    """Before: 100 calls of x at 10 %, 900 of y at 1 %. After: 500 of x at 20 %, 500 of y at 1 %.

    R0 = (10+9)/1000 = 1.9 %, R1 = (100+5)/1000 = 10.5 %, change 8.6 points, of x:
    rate (0.1+0.5)/2 (20-10) = 3.0 points, mix (0.5-0.1) ((10+20)/2 - (1.9+10.5)/2) = 3.52;
    of y: rate 0, mix (0.5-0.9) (1 - 6.2) = 2.08. Together 8.6.
    """
    frame = pl.DataFrame(
        {
            "t": [0, 0, 10, 10],
            "name": ["x", "y", "x", "y"],
            "bad": [10, 9, 100, 5],
            "n": [100, 900, 500, 500],
        }
    )

    answer = attribute(tmp_path, frame)

    assert answer.change == pytest.approx(0.086)
    assert answer.rate_effect == pytest.approx(0.030)
    assert answer.mix_effect == pytest.approx(0.0352 + 0.0208)
    first = answer.causes[0]
    assert dict(first.definition) == {"name": "x"}
    assert (first.rate_effect, first.mix_effect) == (pytest.approx(0.030), pytest.approx(0.0352))
    assert first.explanatory_power == pytest.approx((0.030 + 0.0352) / 0.086)
    # p = 10/19, q = 100/105: 0.5 (p ln 2p/(p+q) + q ln 2q/(p+q)).
    p, q = 10 / 19, 100 / 105
    surprise = 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)))
    assert first.surprise == pytest.approx(surprise)


def test_effects_of_a_partition_add_up_to_the_change(tmp_path: Path) -> None:
    """Random tables, leaves that come and go: mix and rate of all leaves are the change."""
    rng = np.random.default_rng(1)
    for seed in range(20):
        frame = minutes(GRID, n=40, seed=seed, us=3.0)
        frame = frame.with_columns(n=pl.Series(rng.integers(40, 90, frame.height)))
        frame = frame.sample(fraction=0.7, seed=seed)
        answer = attribute(tmp_path, frame)

        assert answer.mix_effect + answer.rate_effect == pytest.approx(answer.change)


def test_moved_traffic_is_a_cause_of_its_own(tmp_path: Path) -> None:
    """No rate changed, but half of the calls moved to where calls fail more."""
    calls = {"good": (900, 300), "poor": (100, 700)}
    rates = {"good": 0.01, "poor": 0.2}
    frame = pl.DataFrame(
        [
            {
                "t": t,
                "name": name,
                "kind": k,
                "bad": round(n[t == 10] * rates[name]),
                "n": n[t == 10],
            }
            for t in range(11)
            for name, n in calls.items()
            for k in ("a", "b")
        ]
    )

    answer = attribute(tmp_path, frame)

    assert answer.mix_effect == pytest.approx(answer.change, rel=0.05)
    assert dict(answer.causes[0].definition) == {"name": "poor"}
    assert answer.causes[0].kind == "mix"


def test_totals_have_no_mix(tmp_path: Path) -> None:
    """Without a count the total is compared with what ten minutes let expect of one."""
    answer = attribute(tmp_path, minutes(GRID, us=6.0), count=None)

    assert not answer.ratio
    assert answer.before == pytest.approx(12 * 500 * 0.02, rel=0.1)
    assert dict(answer.causes[0].definition) == {"place": "us"}
    assert answer.causes[0].mix_effect == 0


def test_times_are_numbers_timestamps_or_text(tmp_path: Path) -> None:
    """The same table with three kinds of time gives the same causes."""
    frame = minutes(GRID, us=6.0)
    stamps = pl.datetime(2026, 1, 1) + pl.duration(minutes=pl.col("t"))
    as_time = frame.with_columns(t=stamps.cast(pl.Datetime("ns", "UTC")))
    as_text = frame.with_columns(t=stamps.dt.strftime("%Y-%m-%dT%H:%M"))

    answers = [
        attribute(tmp_path, frame, 10),
        attribute(tmp_path, as_time, "2026-01-01T00:10:00Z"),
        attribute(tmp_path, as_text, "2026-01-01T00:10"),
    ]

    assert [[dict(c.definition) for c in a.causes] for a in answers] == [[{"place": "us"}]] * 3
    assert len({answer.change for answer in answers}) == 1


def test_spans_before_and_after(tmp_path: Path) -> None:
    """Of spans the periods are times, and weights count: 1 of 4 sampled calls is four."""
    hour = 3_600_000_000_000
    rows = [
        span(
            span_id=f"{i:016x}",
            feature=["chat", "search", "mail"][i % 3],
            environment=["prod", "stage"][i % 2],
            start_time=START_NS + (i % 1000) * hour // 500,
            status_code="error"
            if (i % 3 == 1 and i % 1000 >= 500 and i % 7 < 3) or i % 61 == 0
            else "unset",
            sampling_probability=0.25 if i % 5 == 0 else None,
        )
        for i in range(6000)
    ]
    periods = {
        "before": (START_NS, START_NS + hour),
        "after": (START_NS + hour, START_NS + 2 * hour),
    }
    with open_source(write_spans(tmp_path / "s.parquet", rows)) as source:
        weighted = attribute_spans(source, **periods)  # type: ignore[arg-type]  # as named
        stored = attribute_spans(
            source,
            config=AttributionConfig(weighted=False),
            **periods,  # type: ignore[arg-type]  # as named
        )
        with pytest.raises(NotEnoughDataError, match="before"):
            attribute_spans(source, before=(0, 1), after=periods["after"])

    assert dict(weighted.causes[0].definition) == {"feature": "search"}
    assert stored.before_rows + stored.after_rows == 6000
    assert sum(c.before_count for c in weighted.causes) > sum(c.before_count for c in stored.causes)


def test_evidence_knows_noise_from_change() -> None:
    """30 events where 10 were speak for a factor of 3; 11 do not; one leaf is worth 10 at most."""
    events = np.array([[10.0, 10.0, 1000.0], [30.0, 11.0, 30_000.0]])
    exposure = np.full((2, 3), 100.0)

    odds = leaf_evidence(events, exposure, np.ones(3, np.bool_))

    assert odds.max(axis=0)[0] > 1
    assert odds.max(axis=0)[1] < 0.5
    assert odds.max() == 10


def test_wander_is_measured() -> None:
    """Rates that wander by 20 % between two halves are told from Poisson noise alone."""
    rng = np.random.default_rng(0)
    calm = rng.poisson(400, (2, 300)).astype(float)
    rough = rng.poisson(400 * np.exp(rng.normal(0, 0.2, (2, 300)))).astype(float)

    assert wander_of(calm, np.ones((2, 300))) == pytest.approx(0.05)
    assert wander_of(rough, np.ones((2, 300))) == pytest.approx(0.2, abs=0.03)


def test_columns_and_times_that_are_wrong(tmp_path: Path) -> None:
    """Each is named, with what would be right."""
    frame = minutes(GRID)
    with pytest.raises(UsageError, match="noon"):
        attribute(tmp_path, frame, "noon")
    with pytest.raises(SchemaError, match="'m'"):
        attribute(tmp_path, frame, count="m")
    with pytest.raises(SchemaError, match="no numbers"):
        attribute(tmp_path, frame, count="place")
    with pytest.raises(NotEnoughDataError, match="before"):
        attribute(tmp_path, frame, 0)
    with pytest.raises(UsageError, match="depth"):
        AttributionConfig(depth=0)


def test_real_incidents() -> None:
    """Of every fifth of 45 incidents of a video service most first answers are the true slice.

    The whole set, beside Adtributor: benchmarks/rca_attribution.py.
    """
    folder = shared_path("data", "slice-attribution")
    incidents = json.loads((folder / "causes.json").read_text())[::5]
    right = 0
    for incident in incidents:
        with open_source(folder / incident["file"]) as source:
            change = TableChange("min", str(incident["timestamp"]), "value", "cnt")
            causes = attribute_table(source, change).causes
        first = {k: str(v) for k, v in causes[0].definition.items()} if causes else None
        right += first in incident["causes"]

    assert right >= 6
    assert len(incidents) == 9
