"""Workers as processes of a Ray cluster of three nodes: killed at random, and with their disks.

The keeper is killed too. What a worker does with each row is in `test_workers`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from both_engines import COST, annotated, teacher
from scripted_server import Reply, ScriptedServer, prompt
from small_rows import rows

from tutelage.scale import annotate_on_ray
from tutelage.scale.annotation_worker import WorkerJob
from tutelage.teacher.ledger.charges import charged, lost
from tutelage.teacher.ledger.store import Ledger

ray = pytest.importorskip("ray", reason="the extra `scale` is not installed")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of three nodes on this machine: two processors each, which are not real ones."""
    import tempfile

    from ray.cluster_utils import Cluster

    # Sockets have short paths.
    folder = tempfile.mkdtemp(prefix="ray-")
    Path("/tmp/ray").mkdir(exist_ok=True)  # where the cluster's address is noted
    node = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    system = {"prestart_worker_first_driver": False, "health_check_period_ms": 1000}
    head = {**node, "temp_dir": folder, "_system_config": system}
    for attempt in range(3):
        try:
            cluster = Cluster(initialize_head=True, head_node_args=head)
            break
        except Exception as error:  # Ray gives a node 30 s to start, however busy the machine is
            if "timed out during startup" not in str(error) or attempt == 2:
                raise
    cluster.add_node(**node)
    cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


class Watched:
    """A job on Ray with small shards. `disk`: its workers' folder; `keeper`: the actor"""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.keeper: Any = None

    def workers(self) -> dict[int, Path]:
        """The folder of each worker process that lives, by process number."""
        found = {int(f.name.rpartition("-")[2]): f for f in self.disk.glob("*/*/worker-*")}
        return {pid: folder for pid, folder in found.items() if Path(f"/proc/{pid}").exists()}


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    found = Watched(tmp_path / "disk" / "tutelage-workers")
    make, start = annotate_on_ray._Run._worker_job, annotate_on_ray.start_keeper

    def small(run: Any, folders: Any) -> WorkerJob:
        return replace(make(run, folders), record_answers=15, record_s=1.0)

    def kept(*arguments: Any) -> Any:
        found.keeper = start(*arguments)
        return found.keeper

    monkeypatch.setattr(annotate_on_ray._Run, "_worker_job", small)
    monkeypatch.setattr(annotate_on_ray, "start_keeper", kept)
    return found


def meanwhile(work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  returned
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def recorded_prompts(ledger: Path) -> set[str]:
    """The prompts whose answers are recorded now."""
    with Ledger(ledger) as opened, opened.reader() as connection:
        found = connection.execute("SELECT messages FROM answers").fetchall()
    return {json.loads(messages)[-1]["content"] for (messages,) in found}


def slowly(body: dict[str, Any], before: int) -> Reply:
    return Reply(f"because of {prompt(body)}", delay_s=0.1)


@pytest.mark.timeout(280)
def test_killed_workers_and_a_killed_keeper_change_nothing(
    nodes: Any, watched: Watched, tmp_path: Path
) -> None:
    output = tmp_path / "ray.jsonl"
    ledger = output.with_suffix(".sqlite")
    kept: list[set[str]] = []
    examples = rows(300) + rows(20)
    with ScriptedServer(slowly) as server:

        def kill() -> None:
            for count in (40, 120):
                until(lambda count=count: server.counts.answered > count)
                until(watched.workers)
                pid = min(watched.workers())
                os.kill(pid, signal.SIGKILL)
                kept.append(recorded_prompts(ledger))
            os.kill(ray.get(watched.keeper.ready.remote()), signal.SIGKILL)

        thread, errors = meanwhile(kill)
        settings = teacher(server.base_url, budget_usd=5)
        summary = annotated(
            examples,
            output,
            settings,
            workers=3,
            notes=(notes := []),
            scale={"worker_folder": str(tmp_path / "disk")},
        )
        thread.join()
        assert errors == [] and len(kept) == 2
        assert summary.counts["ok"] == 320
        asked = server.counts.asked
        # Nothing that was recorded is asked again; of a killed worker's rows only what was in
        # flight, and those since its last shard where it begins again on another node.
        assert all(asked[text] == 1 for found in kept for text in found)
        again = sum(times - 1 for times in asked.values())
        assert again <= 2 * (15 + 4 + 4)
        annotated(examples, tmp_path / "local.jsonl", teacher(server.base_url, budget_usd=5))
    assert output.read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    with Ledger(ledger) as opened:
        count, pico = lost(opened, "annotate")
        paid_twice, rest = divmod(charged(opened, "annotate") - pico - 300 * COST, COST)
        assert rest == 0 and 0 <= paid_twice <= again <= count + paid_twice
    named = [line for line in notes if "had leased and not recorded" in line]
    assert sum(int(line.partition(" ended with ")[2].split()[0]) for line in named) >= count


@pytest.mark.timeout(280)
def test_a_lost_node_loses_at_most_what_it_had_not_recorded(
    nodes: Any, watched: Watched, tmp_path: Path
) -> None:
    """The node is removed from the cluster and its disk deleted."""
    output = tmp_path / "ray.jsonl"
    here = ray.get_runtime_context().get_node_id()
    kept: list[set[str]] = []
    with ScriptedServer(slowly) as server:

        def remove() -> None:
            until(lambda: server.counts.answered > 60)

            def doomed() -> list[Any]:
                used = " ".join(str(folder) for folder in watched.workers().values())
                return [n for n in nodes.worker_nodes if n.node_id[:12] in used]

            until(doomed)
            (node, *_) = doomed()
            assert node.node_id != here
            nodes.remove_node(node, allow_graceful=False)
            for folder in watched.disk.rglob(f"*-{node.node_id[:12]}"):
                shutil.rmtree(folder)
            kept.append(recorded_prompts(output.with_suffix(".sqlite")))

        thread, errors = meanwhile(remove)
        summary = annotated(
            rows(240),
            output,
            teacher(server.base_url, budget_usd=5),
            workers=3,
            notes=(notes := []),
            scale={"worker_folder": str(tmp_path / "disk")},
        )
        thread.join()
        assert errors == [] and summary.counts["ok"] == 240
        asked = server.counts.asked
        assert kept[0] and all(asked[text] == 1 for text in kept[0])
        again = sum(times - 1 for times in asked.values())
        annotated(rows(240), tmp_path / "local.jsonl", teacher(server.base_url, budget_usd=5))
    assert output.read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    with Ledger(output.with_suffix(".sqlite")) as opened:
        count, pico = lost(opened, "annotate")
        assert again <= count and charged(opened, "annotate") == 240 * COST + pico
    assert any("had leased and not recorded (r" in line for line in notes) == (count > 0)


@pytest.mark.timeout(280)
def test_ctrl_c_loses_nothing(nodes: Any, watched: Watched, tmp_path: Path) -> None:
    output = tmp_path / "ray.jsonl"
    with ScriptedServer(slowly) as server:
        settings = teacher(server.base_url, budget_usd=5)

        def interrupt() -> None:
            until(lambda: server.counts.answered > 60)
            os.kill(os.getpid(), signal.SIGINT)

        thread, errors = meanwhile(interrupt)
        disk = {"worker_folder": str(tmp_path / "disk")}
        with pytest.raises(KeyboardInterrupt):
            annotated(rows(240), output, settings, workers=2, scale=disk)
        thread.join()
        assert errors == [] and not output.exists()
        sent = server.counts.requests
        assert 60 < sent < 200
        with Ledger(output.with_suffix(".sqlite")) as opened:
            assert len(opened) == sent == server.counts.answered
            assert charged(opened, "annotate") == sent * COST
            assert lost(opened, "annotate") == (0, 0)
        # What is left is asked by this process; that workers would ask no more of it is seen above.
        annotated(rows(240), output, settings)
        assert server.counts.requests == 240


@pytest.mark.timeout(280)
def test_predictions_are_those_of_the_local_engine(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from students import ROWS, checkpoint

    from tutelage import api
    from tutelage.config.scale_settings import ScaleSettings
    from tutelage.core.storage import write_jsonl
    from tutelage.deliver import predict as predicting

    monkeypatch.setattr(predicting, "CHUNK", 7)
    model = checkpoint(tmp_path / "student", "t5")
    data = tmp_path / "rows.jsonl"
    write_jsonl(data, [{"uid": r.uid, **r.fields, "label": r.label} for r in ROWS[:40]])
    for name, scale in (("local", None), ("ray", ScaleSettings(engine="ray", workers=2))):
        api.write_predictions(model, str(data), output=tmp_path / f"{name}.jsonl", scale=scale)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
