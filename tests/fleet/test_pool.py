"""Workers on a local Ray, which is started once for all of these tests."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import psutil
import pytest
from called import answer

from celeb_basis import BasisError, FleetError, fleet
from celeb_basis.backend.load import load_pipeline
from celeb_basis.faces.reader import get_face_reader
from celeb_basis.fleet import pool
from celeb_basis.fleet.pool import ENVIRONMENT, Needs, run
from celeb_basis.known_names import draw_portraits
from celeb_basis.miniature import person

os.environ |= ENVIRONMENT
ray = pytest.importorskip("ray", reason="the extra fleet is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two CPUs of this machine."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    yield
    ray.shutdown()


@dataclass
class Squares:
    """Squares numbers; some numbers are bad for it."""

    killer: int = -1
    wrong: int = -1
    device: str | None = None

    def load(self):
        if self.wrong == 0:
            raise BasisError("no basis")
        return Needs(resident=2**20, free=2**30, bytes_per_item=2**20, max_batch=3)

    def set_threads(self, threads):
        self.threads = threads

    def process(self, batch):
        if self.killer in batch:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.wrong in batch:
            raise RuntimeError("never heard of this number")
        return [(number**2, os.getpid(), self.threads) for number in batch]


def test_every_item_is_answered_once_and_items_are_read_as_workers_become_free():
    read, answered, ahead = 0, [], []

    def numbers():
        nonlocal read
        for number in range(40):
            read += 1
            yield number

    for batch, answers in run(Squares(), numbers(), 40):
        ahead.append(read - len(answered))
        answered += zip(batch, answers, strict=True)
    assert sorted(number for number, _ in answered) == list(range(40))
    assert all(square == number**2 and threads == 1 for number, (square, _, threads) in answered)
    assert max(ahead) <= 2 * 3  # what two workers hold


def test_an_item_that_ends_workers_is_an_error_and_the_others_are_answered(monkeypatch):
    monkeypatch.setattr(pool, "ATTEMPTS", 2)
    found = {}
    for batch, answers in run(Squares(killer=7, wrong=12), range(20), 20):
        for i, number in enumerate(batch):
            assert number not in found
            found[number] = answers if isinstance(answers, FleetError) else answers[i][0]
    lost = {number: found.pop(number) for number in (7, 12)}
    assert found == {number: number**2 for number in range(20) if number not in lost}
    assert all("2 workers were lost with it" in str(error) for error in lost.values())
    assert "never heard of this number" in str(lost[12])


def test_what_a_user_can_put_right_ends_the_run():
    with pytest.raises(BasisError, match="no basis"):
        list(run(Squares(wrong=0), range(3), 3))


LISTENERS = """
import os, psutil
from celeb_basis.fleet.pool import Needs, run

class Nothing:
    device = "cpu"
    def load(self): return Needs(1, 1, 1, 1)
    def set_threads(self, threads): pass
    def process(self, batch): return batch

for _ in run(Nothing(), [1], 1, workers=1):
    ours = {process.pid for process in psutil.Process().children(recursive=True)} | {os.getpid()}
    for connection in psutil.net_connections("tcp"):
        if connection.status == "LISTEN" and connection.pid in ours:
            print(connection.laddr.ip)
"""


def test_a_ray_of_this_machine_listens_to_this_machine_alone():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", LISTENERS]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout.split()
    assert len(found) > 2 and {address.removeprefix("::ffff:") for address in found} == {"127.0.0.1"}


def test_a_cluster_answers_to_the_question_whether_it_is_one():
    pool._check_answers(ray.get_runtime_context().gcs_address)
    pool._check_answers("local")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Six people of the miniature, a missing photo among them."""
    folder = tmp_path_factory.mktemp("people")
    with (folder / "people.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["name", "photo"])
        for i in range(6):
            person(5200 + i, 128).save(folder / f"p{i}.png")
            lines.writerow([f"p{i}", f"p{i}.png" if i != 3 else "nowhere.png"])
    return folder / "people.csv"


def is_worker(process):
    """Whether a process is a worker, which Ray calls after the class; others may end while they are looked at."""
    try:
        return process.cmdline()[:1] == ["ray::_Worker"] or process.name().startswith("ray::_Worker")
    except psutil.NoSuchProcess:
        return False


def test_a_table_is_fitted_though_a_worker_is_killed_and_again_only_where_it_must(table, tmp_path, capsys):
    out = tmp_path / "people"
    command = ("fleet", "fit", table, "-o", out, "--steps", 2, "--num-train-images", 2, "--people-at-once", 1)
    killed = []

    def kill_a_worker():
        while not killed and not (out / "p0.safetensors").exists():
            time.sleep(0.01)
        worker = next(process for process in psutil.Process().children(recursive=True) if is_worker(process))
        worker.kill()
        killed.append(worker)

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    report = answer(capsys, *command)
    killer.join(10)
    assert killed and (report["people"], report["done"], report["errors"]) == (6, 5, 1)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert sorted(line["name"] for line in lines) == [f"p{i}" for i in range(6)]
    assert sorted(file.name for file in out.glob("*.safetensors")) == [f"p{i}.safetensors" for i in (0, 1, 2, 4, 5)]
    written = {file: file.stat().st_mtime_ns for file in out.glob("*.safetensors")}
    person(5300, 128).save(table.parent / "nowhere.png")
    report = answer(capsys, *command, "--workers", 1)
    assert (report["done"], report["there_already"], report["errors"]) == (1, 5, 0)
    assert all(file.stat().st_mtime_ns == then for file, then in written.items())


def test_names_are_drawn_as_on_one_machine():
    pipe = load_pipeline()
    names = ["nobody anybody", "some body", "any one"]
    how = {"num_images": 2, "num_inference_steps": 2, "batch_size": 2}
    *_, here = draw_portraits(pipe, names, get_face_reader(pipe), **how)
    *_, there = fleet.draw_portraits(names, model={"model": "miniature"}, workers=1, **how)
    assert there.drawn == here.drawn
    assert (there.of(names).features - here.features).abs().max() < 1e-3
    [same] = fleet.draw_portraits(names, model={"model": "miniature"}, start=there, **how)
    assert same is there
