"""Changes of level: found where they are, none in noise, none in a season."""

import numpy as np

from pyflare_analysis.rca.patterns.changepoints import binary_segmentation, change_points

HOUR_NS = 3_600_000_000_000


def test_two_steps_are_found_at_their_places() -> None:
    """Levels 0, 3, 1 with unit noise, changes at 40 and 90."""
    rng = np.random.default_rng(0)
    values = np.repeat([0.0, 3.0, 1.0], [40, 50, 60]) + rng.normal(size=150)

    found = binary_segmentation(values)

    assert len(found) == 2
    assert abs(found[0] - 40) <= 2
    assert abs(found[1] - 90) <= 3


def test_noise_has_no_change_of_level() -> None:
    """At most 5 % of quiet series have one, with memory too."""
    rng = np.random.default_rng(1)
    alarms = sum(bool(binary_segmentation(rng.normal(size=100))) for _ in range(200))
    with_memory = 0
    for _ in range(200):
        noise = rng.normal(size=100)
        for t in range(1, 100):
            noise[t] += 0.4 * noise[t - 1]
        with_memory += bool(binary_segmentation(noise))

    assert alarms <= 10
    assert with_memory <= 20
    assert binary_segmentation(np.ones(50)) == []
    assert binary_segmentation(np.array([1.0, 2.0])) == []


def test_a_season_is_no_change_and_a_step_over_it_is_one() -> None:
    """Thirty days of a daily wave; from day 20 on it lies 5 higher."""
    rng = np.random.default_rng(2)
    hours = np.arange(30 * 24)
    wave = 10 * np.sin(hours * 2 * np.pi / 24) + rng.normal(size=len(hours))
    stepped = wave + np.where(hours >= 20 * 24, 5.0, 0.0)

    (change,) = change_points(hours * HOUR_NS, stepped, period=24)

    assert change_points(hours * HOUR_NS, wave, period=24) == []
    assert change.time_ns == 20 * 24 * HOUR_NS
    assert abs(change.after - change.before - 5) < 0.3
