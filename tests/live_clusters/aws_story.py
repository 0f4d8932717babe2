"""The life of the shipped cluster.yaml, from `ray up` to `ray down`, on EC2 in moto's books and
namespaces in place of machines. Only addresses, the user and sizes differ."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cloud import REGION, Cloud
from launcher import call_ray, keep_small, start_ray, write_changed
from namespaces import REPO, wait_for
from sweeps import read_journal, trials_per_host, write_sweep

FOUNDATION = [sys.executable, "clusters/aws_foundation.py", "--region", REGION]
MY_ADDRESS = "203.0.113.7/32"
COMMIT = "0123456789abcdef" * 2 + "01234567"
HF_TOKEN = "hf_AllThatMustNotBeFoundAnywhere"
LOOK = """
import json, psutil, time
def dashboards():
    found = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    return [line for line in found if any(part.endswith("dashboard/dashboard.py") for part in line)]
until = time.monotonic() + 60
while not dashboards() and time.monotonic() < until:
    time.sleep(1)
listening = {tuple(c.laddr) for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
hosts = [part for line in dashboards() for part in line if part.startswith("--host=")]
print("SEEN " + json.dumps([sorted(listening), hosts]))
"""


@dataclass
class Story:
    """What happened, for the tests to judge."""

    root: Path
    cloud: Cloud
    transcript: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    at_up: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)
    reclaimed: str = ""
    watched: str = ""
    listening: str = ""
    stranger: str = ""
    leaks: list[str] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    left_volumes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.root / "shared" / "runs" / "cluster"

    def say(self, line: str) -> None:
        self.transcript.append(line)
        print(line, flush=True)


def fill_in(printed: str) -> dict[str, Any]:
    """Return cluster.yaml with the lines that aws_foundation.py printed in their places."""
    text = (REPO / "cluster.yaml").read_text()
    for name in ("region", "zones", "security_group"):
        line = re.search(rf"^  {name}: &{name} .*$", printed, re.MULTILINE)
        assert line
        text, count = re.subn(rf"^  {name}: &{name} .*$", line[0], text, flags=re.MULTILINE)
        assert count == 1
    mount = re.search(r"^    - NFS=.*$", printed, re.MULTILINE)
    assert mount
    text, count = re.subn(r"^    - NFS=.*$", mount[0], text, flags=re.MULTILINE)
    assert count == 1
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree


def change_sizes(tree: dict[str, Any], image: str) -> None:
    """Override what cannot be the same in a namespace: addresses, user, image, sizes."""
    tree["auth"]["ssh_user"] = "root"
    tree["provider"]["use_internal_ips"] = True
    tree["idle_timeout_minutes"] = 0.3
    for kind, node in tree["available_node_types"].items():
        node["node_config"]["ImageId"] = image
        if kind != "head":
            node["resources"] = {"CPU": 1, "GPU": 1}
            node["max_workers"] = 2
    tree["max_workers"] = 2
    keep_small(tree)


def workers(cloud: Cloud) -> list[dict[str, Any]]:
    """Return the running instances but the head."""
    return [i for i in cloud.instances("running") if tags(i)["ray-node-type"] == "worker"]


def tags(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}


def epochs_by_trial(run: Path) -> dict[str, int]:
    """Return the epochs so far of the trials that go on."""
    events = read_journal(run)
    over = {event["trial_id"] for event in events if event["event"] == "ended"}
    found: dict[str, int] = {}
    for event in events:
        if event["event"] == "epoch" and event["trial_id"] not in over:
            found[event["trial_id"]] = event["epoch"]
    return found


def find_counts(text: str) -> str:
    """Return the line of a sweep's display that counts trials."""
    found = re.findall(r"\d+ of \d+ cells; .*", text)
    return found[-1].strip() if found else ""


def tell(story: Story) -> None:
    """Live through the whole story."""
    cloud, log = story.cloud, story.root / "ray.log"
    printed = subprocess.run(
        [*FOUNDATION, "--ssh-from", MY_ADDRESS],
        cwd=REPO, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    story.config = fill_in(printed)
    change_sizes(story.config, cloud.ec2.describe_images()["Images"][0]["ImageId"])
    path = str(write_changed(story.config, story.root / "cluster.yaml"))
    call_ray(log, "get-auth-token", "--generate")
    call_ray(log, "up", "-y", path)
    story.at_up = cloud.instances("running")
    story.say(f"ray up: {[i['PrivateIpAddress'] for i in story.at_up]}, no workers")
    groups = [group["GroupId"] for i in story.at_up for group in i["SecurityGroups"]]
    found = cloud.ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"]
    story.rules = [rule for group in found for rule in group["IpPermissions"]]
    look_at_head(story, path, log)
    sweep(story, path)
    wait_for("workers back at 0", lambda: not workers(cloud), 300)
    story.say("workers back at 0")
    call_ray(log, "down", "-y", path)
    story.left = cloud.instances("running", "pending", "stopping", "stopped")
    story.left_volumes = cloud.ec2.describe_volumes()["Volumes"]
    story.say(f"ray down: {len(story.left)} instances, {len(story.left_volumes)} volumes left")
    subprocess.run([*FOUNDATION, "--delete"], cwd=REPO, check=True)


def look_at_head(story: Story, path: str, log: Path) -> None:
    """Note what listens on the head, what a stranger is told, and which file holds a secret."""
    (story.root / "shared" / "look.py").write_text(LOOK)
    story.listening = call_ray(log, "exec", path, "python /mnt/sweep/look.py")
    head = story.at_up[0]["PrivateIpAddress"]
    ask = f"from ray._raylet import GcsClient; print(GcsClient(address='{head}:6379').cluster_id)"
    stranger = os.environ | {"RAY_AUTH_MODE": "disabled"}
    asked = subprocess.run(
        [sys.executable, "-c", ask], env=stranger, capture_output=True, text=True, timeout=90
    )
    story.stranger = f"{asked.returncode} {asked.stdout}{asked.stderr}"
    token = (Path(os.environ["HOME"]) / ".ray" / "auth_token").read_text()
    home = story.root / story.cloud.hosts[story.at_up[0]["InstanceId"]].hostname / "root"
    for file in home.rglob("*"):
        if file.is_file() and not file.is_symlink():
            text = file.read_bytes()
            if HF_TOKEN.encode() in text or (token.encode() in text and file.name != "auth_token"):
                story.leaks.append(str(file))


def sweep(story: Story, path: str) -> None:
    """Run the sweep on the cluster and take a machine away in its middle."""
    cloud = story.cloud
    write_sweep(story.root / "shared")
    command = f"cd sweep && SWEEP_COMMIT={COMMIT} python -m sweep.run /mnt/sweep/cluster.yaml"
    driver = start_ray(story.root / "driver.log", "exec", path, command)

    def two_train() -> bool:
        assert driver.poll() is None, (story.root / "driver.log").read_text()[-4000:]
        busy = [epoch for epoch in epochs_by_trial(story.run).values() if epoch >= 1]
        return len(workers(cloud)) == 2 and len(busy) >= 2

    seconds = wait_for("two workers that train", two_train, 600)
    found = [f"{i['PrivateIpAddress']} ({tags(i)['ray-user-node-type']})" for i in workers(cloud)]
    story.say(f"demand brought {found}, two trials past their first epoch after {seconds:.0f} s")
    victim = workers(cloud)[-1]
    story.reclaimed = cloud.hosts[victim["InstanceId"]].hostname
    cloud.reclaim(victim["InstanceId"])
    story.say(f"cut: {victim['PrivateIpAddress']} terminated, its host killed")
    look = "cd sweep && timeout --preserve-status -s INT 5 python -m sweep.run --attach"
    story.watched = call_ray(story.root / "ray.log", "exec", path, f"{look} runs/cluster")
    story.say(f"watched from another terminal: {find_counts(story.watched)}")
    wait_for("the end of the sweep", lambda: driver.poll() is not None, 900)
    assert driver.returncode == 0, (story.root / "driver.log").read_text()[-6000:]
    story.say(f"trials per host: {trials_per_host(story.run)}")
