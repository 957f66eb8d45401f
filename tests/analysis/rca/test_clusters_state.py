"""Ids of clusters: the same from run to run, also when templates widen and narrow."""

import stat
from pathlib import Path

from pyflare_analysis.rca.clusters.clusterer import ClusterAnswer, FailureClusterer, FailureRecord
from pyflare_analysis.rca.clusters.failure_rows import RecordRows
from pyflare_analysis.rca.clusters.state import (
    ALGORITHM,
    ClusterKey,
    ClusterStore,
    KnownCluster,
    Registry,
    covers,
)

NAMES = ("ada", "bob", "eve", "joe", "sam", "zoe")


def run(store: Path, texts: list[str], start_ns: int = 0) -> tuple[ClusterAnswer, Registry]:
    """Cluster messages beside the known clusters of a store, and record what was found."""
    records = [FailureRecord(str(n), text, time_ns=start_ns + n) for n, text in enumerate(texts)]
    with ClusterStore(store) as state:
        registry = Registry(state.known())
        answer = FailureClusterer(registry=registry).cluster_rows(RecordRows(records))
        state.record([*answer.known(), *registry.taken_in()])
    return answer, registry


def test_without_a_state_the_same_template_has_the_same_id() -> None:
    """The id is a hash of algorithm, type, frames and template."""
    key = ClusterKey("E", ("a.py:f",), "user <*> left")

    assert key.new_id() == ClusterKey("E", ("a.py:f",), "user <*> left").new_id()
    others = [
        ClusterKey("F", ("a.py:f",), "user <*> left"),
        ClusterKey("E", (), "user <*> left"),
        ClusterKey("E", ("a.py:f",), "user <*> came"),
    ]
    assert len({key.new_id(), *(other.new_id() for other in others)}) == 4


def test_a_template_that_widens_keeps_the_id_of_the_oldest(tmp_path: Path) -> None:
    """Two wordings become one as more names come; the later of the two is taken in."""
    store = tmp_path / "state.db"
    (first,) = run(store, ["lock held by ada for long"])[0].clusters
    answer, _ = run(store, ["lock held by bob for long"], 10)
    second = answer.clusters[0]

    wide, registry = run(store, [f"lock held by {name} for long" for name in NAMES], 100)

    assert second.id != first.id
    assert [cluster.id for cluster in wide.clusters] == [first.id]
    assert wide.clusters[0].template == "lock held by <*> for long"
    assert wide.clusters[0].first_seen_ns == 0
    assert wide.merged == registry.merged == {second.id: first.id}
    with ClusterStore(store) as state:
        known = {cluster.id: cluster for cluster in state.known()}
    assert known[second.id].merged_into == first.id


def test_a_run_that_sees_little_joins_the_known_template(tmp_path: Path) -> None:
    """One message of a known kind is no new kind, and it is known."""
    store = tmp_path / "state.db"
    (wide,) = run(store, [f"lock held by {name} for long" for name in NAMES])[0].clusters

    (again,) = run(store, ["lock held by max for long"], 1000)[0].clusters

    assert (again.id, again.template) == (wide.id, wide.template)
    assert (wide.is_known, again.is_known) == (False, True)
    assert (again.first_seen_ns, again.last_seen_ns) == (0, 1000)


def test_first_and_last_seen_only_widen(tmp_path: Path) -> None:
    """Looking at an old week again does not make the last failure older."""
    store = tmp_path / "state.db"
    run(store, ["boom"], 1000)
    run(store, ["boom"], 10)

    with ClusterStore(store) as state:
        (known,) = state.known()

    assert (known.first_seen_ns, known.last_seen_ns) == (10, 1000)


def test_a_cluster_that_was_taken_in_stays_so(tmp_path: Path) -> None:
    """Its old template alone leads to the cluster that took it in."""
    store = tmp_path / "state.db"
    (first,) = run(store, ["lock held by ada for long"])[0].clusters
    run(store, ["lock held by bob for long"], 10)
    run(store, [f"lock held by {name} for long" for name in NAMES], 100)

    (again,) = run(store, ["lock held by bob for long"], 200)[0].clusters

    assert again.id == first.id


def test_other_types_and_frames_are_other_clusters() -> None:
    """A known template of another type does not cover."""
    known = KnownCluster("fc_1", ClusterKey("E", (), "user <*> left"))
    registry = Registry([known])

    assert registry.identify(ClusterKey("E", (), "user ada left"))[0] == "fc_1"
    assert registry.identify(ClusterKey("F", (), "user ada left"))[0] != "fc_1"
    assert registry.identify(ClusterKey("E", ("f",), "user ada left"))[0] != "fc_1"


def test_a_template_of_values_alone_covers_nothing() -> None:
    """Or everything would join it."""
    assert not covers("<*> <...>", "any text")
    assert covers("at <...>", "at any text")
    assert not covers("at <*>", "at any text")


def test_clusters_of_another_algorithm_are_left_alone(tmp_path: Path) -> None:
    """They stay in the store, and take part in nothing."""
    store = tmp_path / "state.db"
    run(store, ["boom"])
    with ClusterStore(store) as state, state._state.write() as connection:
        connection.execute("UPDATE failure_cluster SET algorithm = 'other/0'")
    with ClusterStore(store) as state:
        assert state.known() == []
    assert ALGORITHM.startswith("pyflare-templates/")


def test_the_state_is_private(tmp_path: Path) -> None:
    """Templates are made of error messages."""
    store = tmp_path / "state.db"
    run(store, ["boom"])

    assert stat.S_IMODE(store.stat().st_mode) == 0o600
