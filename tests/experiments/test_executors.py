"""Runs are the same to the last bit, whoever makes them: processes, a dask cluster, a queue; and whoever is killed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
from smp_feedback.errors import FeedbackError, InvalidValue, MissingExtra
from smp_feedback.experiments.ablation.experiment import ablate
from smp_feedback.experiments.ablation.settings import AblationSettings
from smp_feedback.experiments.base_settings import ExperimentSettings
from smp_feedback.experiments.comparison.experiment import compare
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.engine import Experiment
from smp_feedback.experiments.parallel import Here, executor_of, in_turn, run_all
from smp_feedback.experiments.slurm import SubmititExecutor
from smp_feedback.experiments.store import Trained

TINY = {
    "size": 32,
    "encoder": "tu-test_resnet.r160_in1k",
    "arch_options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    "batch_size": 2,
    "seeds": 1,
    "test_images": 2,
}
COMPARED = ComparisonSettings(
    **TINY, models=["feedback", "plain"], feedback={"steps": 2}, train_count=[2], train_steps=20, corruptions=[]
)
ABLATED = AblationSettings(
    **TINY,
    rows=["clean", "feedback"],
    restoration={"steps": 2, "depth": 2, "filters": 4},
    train_count=4,
    train_steps=4,
)
SPENT = ("seconds", "seconds_per_image")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Both experiments, made in this process."""
    return {what: made(what, tmp_path_factory.mktemp("here")) for what in ("compare", "ablate")}


def made(what, folder, **how):
    """What there is in the folder of an experiment, but for times."""
    experiment, settings = {"compare": (compare, COMPARED), "ablate": (ablate, ABLATED)}[what]
    experiment(settings, folder, accelerator="cpu", **how)
    results = json.loads((folder / experiment.results).read_text())
    runs = [json.loads(path.read_text()) for path in sorted((folder / "runs").iterdir())]
    for run in (*results["runs"], *runs):
        assert all(run.pop(name) > 0 for name in SPENT)
    weights = {path.name: path.read_bytes() for path in sorted((folder / "models").glob("*.safetensors"))}
    assert len(weights) == 2
    return {"results": results, "runs": runs, "weights": weights}


def killed(find):
    """A thread that kills the first process which *find* finds."""
    victims = []

    def kill():
        while not victims:
            time.sleep(0.02)
            victims.extend(find()[:1])
        os.kill(victims[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread, victims


@pytest.mark.sweep
def test_processes_make_the_same_runs(alone, tmp_path):
    assert made("ablate", tmp_path, jobs=2) == alone["ablate"]


@pytest.fixture
def cluster():
    """A dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    how = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**how) as cluster, cluster.get_client() as client:
        yield client


@pytest.mark.sweep
def test_a_dask_cluster_makes_the_same_runs_though_a_worker_is_killed_while_it_trains(cluster, alone, tmp_path):
    pids = cluster.run(os.getpid)

    def training():
        stacks = cluster.call_stack()
        return [pids[worker] for worker, stack in stacks.items() if "training_step" in str(stack)]

    thread, victims = killed(training)
    address = cluster.scheduler.address.removeprefix("tcp://")
    assert made("compare", tmp_path, executor=f"dask://{address}") == alone["compare"]
    thread.join()
    assert victims[0] in pids.values()


@pytest.mark.sweep
def test_a_queue_of_submitit_makes_the_same_runs(alone, tmp_path):
    submitit = pytest.importorskip("submitit")
    with SubmititExecutor(submitit.AutoExecutor(tmp_path / "queue", cluster="local")) as queue:
        assert made("ablate", tmp_path / "out", executor=queue) == alone["ablate"]


# as SLURM's, of one machine
SLURM = {
    "srun": 'shift 5; exec "$@"',
    "sbatch": (
        "export SLURM_JOB_ID=$$ SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_NODEID=0 SLURM_LOCALID=0;"
        'cat "$1" > {folder}/script; sh "$1" > {folder}/said 2>&1 & echo "Submitted batch job $$"'
    ),
    "sacct": 'echo "JobID|State|NodeList"',
    "scancel": "true",
}


def test_slurm_is_asked_for_as_many_cores_as_a_run_has_threads(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    for name, script in SLURM.items():
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + script.replace("{folder}", str(tmp_path)) + "\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with executor_of("slurm", 1, tmp_path / "out") as (queue, at_once):
        assert dict(run_all(math.sqrt, [4.0], queue, at_once)) == {4.0: 2.0}
    assert not (tmp_path / "out" / "slurm").exists(), "scripts and logs are of use only where something went wrong"
    assert f"--cpus-per-task={torch.get_num_threads()}" in (tmp_path / "script").read_text()


class Job:
    """As submitit's: what it was handed, or its end."""

    def __init__(self, end, work, *args):
        self.end, self.work, self.args = end, work, args

    def result(self):
        if self.end is not None:
            raise self.end
        return self.work(*self.args)


class Jobs:
    """As submitit's executors: its first jobs end as told."""

    kind = Job

    def __init__(self, *ends):
        self.ends, self.queued = list(ends), 0

    def submit(self, work, *args):
        self.queued += 1
        return self.kind(self.ends.pop(0) if self.ends else None, work, *args)


def double(key):
    if key < 0:
        raise InvalidValue(f"{key} is too few")
    return 2 * key


def test_a_queued_run_that_is_killed_is_queued_again_and_one_that_fails_is_not():
    errors = pytest.importorskip("submitit.core.utils")
    gone, wrong = errors.UncompletedJobError("killed"), errors.FailedJobError("trace")
    with SubmititExecutor(jobs := Jobs(gone, gone)) as queue:
        assert dict(run_all(double, [1, 2], queue)) == {1: 2, 2: 4}
        assert jobs.queued == 4
    with (
        SubmititExecutor(Jobs(gone, gone, gone)) as queue,
        pytest.raises(FeedbackError, match="1: the process that made this"),
    ):
        dict(run_all(double, [1], queue))
    with SubmititExecutor(jobs := Jobs(wrong)) as queue, pytest.raises(errors.FailedJobError):
        dict(run_all(double, [1], queue))
    assert jobs.queued == 1


def test_a_pool_that_broke_is_one_line_wherever_it_is_noticed():
    class Broken(Here):
        def submit(self, work, *args):
            raise BrokenExecutor

    with pytest.raises(FeedbackError, match="1: the process that made this"):
        dict(run_all(double, [1], Broken()))


def test_a_run_that_dask_gave_up_is_one_line():
    distributed = pytest.importorskip("distributed")

    class GaveUp(Here):
        def submit(self, work, *args):
            made = Future()
            made.set_exception(distributed.KilledWorker("run", "worker", 3))
            return made

    with pytest.raises(FeedbackError, match="1: the process that made this"):
        dict(run_all(double, [1], GaveUp()))


def test_what_is_still_queued_is_taken_back_when_something_goes_wrong():
    errors = pytest.importorskip("submitit.core.utils")

    class Endless(Job):
        """It runs until it is cancelled."""

        def __init__(self, end, work, *args):
            self.cancelled = threading.Event()

        def done(self):
            return self.cancelled.is_set()

        def cancel(self, check):
            self.cancelled.set()

        def result(self):
            self.cancelled.wait(30)
            raise errors.UncompletedJobError("cancelled")

    jobs = Jobs()
    jobs.kind = Endless
    with contextlib.suppress(KeyboardInterrupt), SubmititExecutor(jobs) as queue:
        future = queue.submit(double, 1)
        while not jobs.queued:
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert isinstance(future.exception(), BrokenExecutor)
    assert jobs.queued == 1, "and not queued again"


def test_what_a_queued_run_says_is_wrong_is_said_as_everywhere():
    pytest.importorskip("submitit")
    with SubmititExecutor(Jobs()) as queue, pytest.raises(InvalidValue, match="-1 is too few"):
        dict(run_all(double, [-1], queue))


class Recording(Here):
    """As many at a time as it is handed; it notes how many."""

    def __init__(self):
        self.waiting, self.most = [], 0

    def submit(self, work, /, *args, **kwargs):
        self.waiting.append(Future())
        self.most = max(self.most, sum(not one.done() for one in self.waiting))
        threading.Timer(0.05, self.waiting[-1].set_result, [work(*args, **kwargs)]).start()
        return self.waiting[-1]


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2), (None, 5)])
def test_no_more_runs_are_handed_out_at_the_same_time_than_there_are_places(at_once, most):
    executor, begun = Recording(), []
    found = dict(run_all(double, range(5), executor, at_once, begun.append))
    assert found == {key: 2 * key for key in range(5)}
    assert executor.most == most
    assert begun == list(range(5))


@pytest.mark.parametrize("lost", [BrokenExecutor(), None])
def test_a_run_that_is_lost_with_its_process_is_named_on_one_line(lost):
    class Losing(Here):
        def submit(self, work, /, *args, **kwargs):
            future = Future()
            future.cancel() and future.set_running_or_notify_cancel() if lost is None else future.set_exception(lost)
            return future

    with pytest.raises(FeedbackError, match=r"^7: the process that made this run is gone; start again to go on\.$"):
        dict(run_all(double, [7], Losing()))


def test_a_process_makes_one_run_at_a_time_and_gives_its_threads_back():
    before, inside, most = torch.get_num_threads(), [], []

    def work(key):
        inside.append(torch.get_num_threads())
        most.append(len(inside))
        time.sleep(0.02)
        return inside.pop()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda key: in_turn(work, 3, key), range(4))) == [3] * 4
    assert most == [1] * 4
    assert in_turn(work, before + 1, 0) == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("threads", "jobs", "each"), [(4, 1, 4), (4, 2, 2), (1, 2, 1)])
def test_a_run_computes_on_as_many_threads_whoever_makes_it(threads, jobs, each, tmp_path):
    seen = []
    toy = Experiment(
        results="toy.json",
        keys=lambda settings: range(settings.seeds),
        passes=lambda settings, key: 1,
        plan=str,
        check=str,
        run=lambda settings, key, accelerator: seen.append(torch.get_num_threads()) or Trained({"key": key}, b""),
        gather=lambda settings: {},
        report=lambda settings, results, folder: seen.append([run["key"] for run in results["runs"]]) or [],
        tables=lambda results: [],
        summary=lambda results: [],
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        toy(ExperimentSettings(), tmp_path, jobs=jobs, executor=Here())
    finally:
        torch.set_num_threads(before)
    assert seen == [each, each, each, [0, 1, 2]]


def test_an_executor_that_cannot_be_had_is_refused_before_any_work(tmp_path, monkeypatch):
    for word, says in {"slurm": "srun", "dask://127.0.0.1:1": "no scheduler answers there"}.items():
        dask = pytest.importorskip("dask")
        pytest.importorskip("submitit")
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}),
            pytest.raises(InvalidValue, match=f"executor='{word}': .*{says}"),
            executor_of(word, 1, tmp_path),
        ):
            pytest.fail("opened")
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda library: None)
    for word in ("slurm", "dask://node:8786"):
        with pytest.raises(MissingExtra, match=r"smp_feedback\[cluster\]"):
            compare(COMPARED, tmp_path / "out", accelerator="cpu", executor=word)
    assert not (tmp_path / "out").exists()
