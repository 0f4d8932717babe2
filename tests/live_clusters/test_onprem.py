"""The shipped clusters/onprem.yaml, from `ray up` to `ray down`, on namespaces in place of the
machines under a desk. Only addresses, the user, the key and sizes differ."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from launcher import call_ray, keep_small, read_shipped, start_ray, write_changed
from namespaces import Host, drop_bridge, make_bridge, run, wait_for
from sweeps import comparable, read_journal, run_alone, trials_per_host, write_sweep

HEAD, WORKERS = "10.77.0.10", ["10.77.0.11", "10.77.0.12"]
V1 = {"RAY_UP_enable_autoscaler_v2": "0"}
pytestmark = pytest.mark.timeout(1800)


@dataclass
class Desk:
    """What happened, for the tests to judge."""

    root: Path
    hosts: dict[str, Host] = field(default_factory=dict)
    status: str = ""
    lost: str = ""
    raylets_left: int = -1

    @property
    def run(self) -> Path:
        return self.root / "shared" / "runs" / "cluster"


def busy_trials(run: Path) -> int:
    """Return how many trials are past their first epoch and go on."""
    events = read_journal(run)
    over = {event["trial_id"] for event in events if event["event"] == "ended"}
    return len({e["trial_id"] for e in events if e["event"] == "epoch"} - over)


def live(desk: Desk) -> None:
    """Live through the whole story."""
    log = desk.root / "ray.log"
    tree = read_shipped("clusters/onprem.yaml")
    tree["provider"] |= {"head_ip": HEAD, "worker_ips": WORKERS}
    tree["auth"] = {"ssh_user": "root", "ssh_private_key": str(desk.root / "home" / "key")}
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        # A worker counts this machine's two cores as its own.
        tree[key] = [
            c.replace("ray start --address", "ray start --num-cpus=1 --address") for c in tree[key]
        ]
    keep_small(tree)
    path = str(write_changed(tree, desk.root / "onprem.yaml"))
    call_ray(log, "get-auth-token", "--generate")
    call_ray(log, "up", "-y", path, **V1)

    def all_up() -> bool:
        desk.status = call_ray(log, "exec", path, "ray status", **V1)
        return "0.0/2.0 CPU" in desk.status

    seconds = wait_for("two workers", all_up, 300)
    print(f"on-premises: head {HEAD} and two workers after {seconds:.0f} s", flush=True)
    sweep(desk, path)
    call_ray(log, "down", "-y", path, **V1)
    wait_for("the workers' Ray to end", lambda: count_raylets(desk) == 0, 240)
    desk.raylets_left = count_raylets(desk)


def sweep(desk: Desk, path: str) -> None:
    """Run the sweep, and pull one machine's plug in its middle."""
    write_sweep(desk.root / "shared")
    command = "cd sweep && python -m sweep.run /mnt/sweep/cluster.yaml"
    driver = start_ray(desk.root / "driver.log", "exec", path, command, **V1)

    def two_train() -> bool:
        assert driver.poll() is None, (desk.root / "driver.log").read_text()[-4000:]
        # Both have brought a trial to its end, and both have one under way.
        return len(trials_per_host(desk.run)) == 2 and busy_trials(desk.run) >= 2

    wait_for("two workers that train", two_train, 600)
    desk.lost = desk.hosts[WORKERS[1]].hostname
    desk.hosts[WORKERS[1]].kill()
    print(f"cut: the plug of {WORKERS[1]} pulled", flush=True)
    wait_for("the end of the sweep", lambda: driver.poll() is not None, 900)
    assert driver.returncode == 0, (desk.root / "driver.log").read_text()[-6000:]
    print(f"trials per host: {trials_per_host(desk.run)}", flush=True)


def count_raylets(desk: Desk) -> int:
    """Return the raylets of all hosts: this process sees into their process namespaces."""
    return len([line for line in run("ps", "-eo", "comm").split() if line == "raylet"])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    for name in ("shared", "home", "tmp"):
        (desk.root / name).mkdir()
    os.environ.update(HOME=str(desk.root / "home"), TMPDIR=str(desk.root / "tmp"))
    key = desk.root / "home" / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    public = key.with_suffix(".pub").read_text()
    make_bridge("10.77.0.1/24")
    told = "export PYTHONPATH=/root/sweep RAY_worker_niceness=0\n"
    for address in (HEAD, *WORKERS):
        desk.hosts[address] = Host(address, 24, public, desk.root, desk.root / "shared", told)
    try:
        live(desk)
        yield desk
    finally:
        for host in desk.hosts.values():
            host.kill()
        drop_bridge()


def test_trials_ran_on_both_workers_and_none_on_the_head(desk: Desk) -> None:
    hosts = trials_per_host(desk.run)
    assert set(hosts) == {desk.hosts[address].hostname for address in WORKERS}


def test_trials_of_the_lost_machine_go_on_elsewhere_from_their_checkpoints(desk: Desk) -> None:
    events = read_journal(desk.run)
    retried = {event["trial_id"] for event in events if event["event"] == "retried"}
    ended = {event["trial_id"]: event for event in events if event["event"] == "ended"}
    assert retried
    for trial_id in retried:
        assert ended[trial_id]["status"] == "finished"
        assert ended[trial_id]["host"] != desk.lost
        assert ended[trial_id]["resumed_epoch"] >= 1


def test_table_is_that_of_a_single_machine(desk: Desk) -> None:
    folder = desk.root / "alone"
    folder.mkdir()
    ours, theirs = comparable(desk.run), comparable(run_alone(folder, write_sweep(folder)))
    assert ours == theirs
    print(f"equal tables: {len(ours)} rows, {len(ours[0])} columns")


def test_no_ray_process_is_left_after_ray_down(desk: Desk) -> None:
    assert desk.raylets_left == 0
