"""Processes that fork, end, and are ended: the spans of each arrive, once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from tests.sdk.fake_collector import FakeCollector

START = """
import multiprocessing, os, sys, threading, time
import pyflare
pyflare.init("test", {url!r}, use_http=True)
def spans(name, count=20):
    for number in range(count):
        with pyflare.span(f"{{name}} {{number}}"):
            pass
"""


def run(collector: FakeCollector, script: str, **environment: str) -> str:
    """Run a script that starts with the SDK set up; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(url=collector.url) + textwrap.dedent(script)],
        env={"PYTHONPATH": ":".join(sys.path), "OTEL_BSP_SCHEDULE_DELAY": "60000", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts(collector: FakeCollector) -> dict[str, int]:
    """Return how many spans arrived of each name's first word; each of them once."""
    assert len(collector.names) == len(set(collector.names))
    found: dict[str, int] = {}
    for name in collector.names:
        word = name.split()[0]
        found[word] = found.get(word, 0) + 1
    return found


def test_the_end_of_a_script_delivers() -> None:
    """Without `flush` or `shutdown`, at a normal end and at one by an exception."""
    with FakeCollector() as collector:
        run(collector, "spans('end')")
        run(collector, "spans('exit')\nsys.exit(0)")
        assert counts(collector) == {"end": 20, "exit": 20}


def test_spans_of_exit_handlers_arrive() -> None:
    """A span that is the first of all, in an `atexit` handler, finds no thread and arrives."""
    with FakeCollector() as collector:
        run(collector, "import atexit\natexit.register(spans, 'late', 3)")
        assert counts(collector) == {"late": 3}


def test_forked_workers() -> None:
    """As a server forks workers: master, workers, and master again, each span once."""
    with FakeCollector() as collector:
        run(
            collector,
            """
            spans("master")
            children = []
            for worker in range(4):
                child = os.fork()
                if not child:
                    spans(f"worker{worker}", 50)
                    sys.exit(0)
                children.append(child)
            for child in children:
                os.waitpid(child, 0)
            spans("again")
            """,
        )
        assert counts(collector) == {
            "master": 20, "again": 20, **{f"worker{n}": 50 for n in range(4)},
        }  # fmt: skip


def test_a_fork_in_the_middle_of_sending() -> None:
    """Forks while threads end spans and the collector is slow neither hang nor repeat."""
    with FakeCollector(hang_seconds=0.05) as collector:
        run(
            collector,
            """
            threads = [threading.Thread(target=spans, args=(f"thread{n}", 400)) for n in range(3)]
            for thread in threads:
                thread.start()
            children = []
            for worker in range(8):
                child = os.fork()
                if not child:
                    spans(f"child{worker}")
                    pyflare.shutdown()
                    os._exit(0)
                children.append(child)
                time.sleep(0.01)
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
            for thread in threads:
                thread.join()
            """,
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="64",
        )
        assert counts(collector) == {
            **{f"thread{n}": 400 for n in range(3)}, **{f"child{n}": 20 for n in range(8)},
        }  # fmt: skip


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str) -> None:
    """Its processes end without `atexit` and deliver all the same."""
    script = """
    import multiprocessing
    import pyflare, sys
    def work(name):
        if pyflare.PyFlare.get_instance() is None:
            pyflare.init("test", sys.argv[1], use_http=True)
        for number in range(30):
            with pyflare.span(f"{name} {number}"):
                pass
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[2])
        pyflare.init("test", sys.argv[1], use_http=True)
        with pyflare.span("main 0"):
            pass
        processes = [context.Process(target=work, args=(f"process{n}",)) for n in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        with context.Pool(1) as pool:
            pool.map(work, ["pool"])
            pool.close()
            pool.join()
    """
    with FakeCollector() as collector:
        path = "script.py"
        with open(path, "w") as file:  # noqa: PTH123 - in the test's own folder
            file.write(textwrap.dedent(script))
        done = subprocess.run(
            [sys.executable, path, collector.url, method],
            env={"PYTHONPATH": ":".join(sys.path), "OTEL_BSP_SCHEDULE_DELAY": "60000"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert counts(collector) == {"main": 1, "process0": 30, "process1": 30, "pool": 30}


def test_spans_that_end_in_the_middle_of_another() -> None:
    """A signal handler, or the end of a forgotten stream, may come at any instruction."""
    with FakeCollector() as collector:
        run(
            collector,
            """
            import signal
            ended = [0]
            def handler(*_):
                with pyflare.span(f"signal {ended[0]}"):
                    ended[0] += 1
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0003)
            end = time.monotonic() + 1.5
            count = 0
            while time.monotonic() < end:
                with pyflare.span(f"main {count}"):
                    count += 1
                if not count % 100:
                    pyflare.flush(5)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            assert pyflare.flush(20)
            statistics = pyflare.stats()
            assert statistics.sent == count + ended[0], statistics
            assert ended[0] > 20
            """,
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2",
            OTEL_BSP_SCHEDULE_DELAY="1",
        )


def test_a_signal_handler_that_shuts_down() -> None:
    """SIGTERM in the middle of the work: what has ended is delivered."""
    with FakeCollector() as collector:
        printed = run(
            collector,
            """
            import signal
            def stop(*_):
                print(pyflare.shutdown())
                sys.exit(0)
            signal.signal(signal.SIGTERM, stop)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            count = 0
            while True:
                with pyflare.span(f"main {count}"):
                    count += 1
                time.sleep(0.0005)
            """,
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2",
        )
        assert printed == "True\n"
        assert len(collector.names) > 20


def test_statistics_of_a_child_begin_at_zero() -> None:
    """What waits in the parent is the parent's business."""
    with FakeCollector() as collector:
        printed = run(
            collector,
            """
            spans("parent", 5)
            child = os.fork()
            if not child:
                print(pyflare.stats().waiting, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            print(pyflare.stats().waiting)
            """,
        )
    assert printed.split() == ["0", "5"]


def test_a_script_ends_quickly_without_a_collector() -> None:
    """Nobody listens: the end of the process does not wait, and says what is lost."""
    collector = FakeCollector()
    collector.stop()
    began = time.monotonic()
    printed = run(
        collector,
        """
        import logging
        spans("lost", 3)
        began = time.monotonic()
        pyflare.shutdown()
        print(time.monotonic() - began < 4.5, pyflare.stats().lost_at_shutdown)
        """,
    )
    assert printed.split() == ["True", "3"]
    assert time.monotonic() - began < 30


def test_grpc_and_forks() -> None:
    """Over gRPC, workers that are forked after the master has sent spans deliver too."""
    pytest.importorskip("grpc")
    from tests.sdk.grpc_collector import GrpcCollector

    with GrpcCollector() as collector:
        script = f"""
        import os, sys
        import pyflare
        pyflare.init("test", "http://127.0.0.1:{collector.port}")
        with pyflare.span("early 0"):
            pass
        assert pyflare.flush()
        children = []
        for worker in range(2):
            child = os.fork()
            if not child:
                for number in range(10):
                    with pyflare.span(f"worker{{worker}} {{number}}"):
                        pass
                sys.exit(0)
            children.append(child)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        with pyflare.span("master 0"):
            pass
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={"PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert sorted(name.split()[0] for name in collector.names) == (
            ["early", "master"] + ["worker0"] * 10 + ["worker1"] * 10
        )
