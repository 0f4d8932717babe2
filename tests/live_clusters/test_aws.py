"""The shipped cluster.yaml, from `ray up` to `ray down`, on EC2 in moto's books and namespaces in
place of machines."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_story import COMMIT, HF_TOKEN, MY_ADDRESS, Story, find_counts, tags, tell
from cloud import ADDRESS, Cloud
from namespaces import drop_bridge, make_bridge
from sweeps import EPOCHS, TRIALS, comparable, read_journal, run_alone, trials_per_host, write_sweep

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("aws")
    for name in ("shared", "home", "tmp"):
        (root / name).mkdir()
    os.environ.update(HOME=str(root / "home"), TMPDIR=str(root / "tmp"), HF_TOKEN=HF_TOKEN)
    make_bridge(f"{ADDRESS}/16")
    cloud = Cloud(root, root / "shared")
    story = Story(root, cloud)
    try:
        tell(story)
        yield story
    finally:
        cloud.close()
        drop_bridge()


@pytest.fixture(scope="module")
def alone(story: Story) -> Path:
    """Run the same sweep on one machine; return its run folder."""
    folder = story.root / "alone"
    folder.mkdir()
    return run_alone(folder, write_sweep(folder))


def test_plan_counts_the_workers_that_are_not_there_yet(story: Story) -> None:
    told = (story.root / "driver.log").read_text()
    assert "2 trial(s) at a time" in told
    assert "Ray cluster: 1 node(s), 0 CPUs, 0 GPUs" in told
    assert "with all its workers, the cluster has 2 CPUs, 2 GPUs" in told


def test_running_sweep_is_watched_from_another_terminal(story: Story) -> None:
    assert re.match(r"[01] of 2 cells; \d running; ", find_counts(story.watched))
    assert "the sweep continues" in story.watched


def test_journal_names_the_commit_that_was_told(story: Story) -> None:
    opened = [event for event in read_journal(story.run) if event["event"] == "opened"]
    assert [event["git_commit"] for event in opened] == [COMMIT]


def test_one_small_head_and_nothing_else_comes_up(story: Story) -> None:
    assert [i["InstanceType"] for i in story.at_up] == ["m6i.large"]
    assert "InstanceLifecycle" not in story.at_up[0]


def test_demand_brings_spot_workers_of_the_preferred_type(story: Story) -> None:
    found = [i for i in story.cloud.seen() if tags(i)["ray-node-type"] == "worker"]
    assert len(found) >= 3  # two, and one in place of the one that was taken
    assert {i["InstanceType"] for i in found} == {"g6.xlarge"}
    assert {i.get("InstanceLifecycle") for i in found} == {"spot"}


def test_only_the_head_has_rights_at_aws(story: Story) -> None:
    for instance in story.cloud.seen():
        profile = instance.get("IamInstanceProfile", {}).get("Arn", "")
        is_head = tags(instance)["ray-node-type"] == "head"
        assert profile.endswith("/sweep-head") if is_head else not profile


def test_every_machine_carries_the_tag_of_the_bill(story: Story) -> None:
    assert {tags(i).get("project") for i in story.cloud.seen()} == {"sweep"}


def test_every_machine_is_in_the_closed_group(story: Story) -> None:
    groups = {g["GroupId"] for i in story.cloud.seen() for g in i["SecurityGroups"]}
    assert groups == set(story.config["metadata"]["security_group"])


def test_that_group_lets_in_its_members_and_ssh_from_one_address(story: Story) -> None:
    ranges = [(r.get("FromPort"), r["IpRanges"], r["Ipv6Ranges"]) for r in story.rules]
    assert [r for r in ranges if r[1] or r[2]] == [(22, [{"CidrIp": MY_ADDRESS}], [])]
    members = {pair["GroupId"] for rule in story.rules for pair in rule["UserIdGroupPairs"]}
    assert members == set(story.config["metadata"]["security_group"])


def test_dashboard_listens_on_the_loopback_only(story: Story) -> None:
    found = re.search(r"SEEN (\[\[.*\])", story.listening)
    assert found
    listening, hosts = json.loads(found[1])
    assert hosts == ["--host=127.0.0.1"]
    # Without the extra ray[default] it serves no page at all.
    assert {address for address, port in listening if port == 8265} <= {"127.0.0.1"}


def test_stranger_without_the_token_is_refused(story: Story) -> None:
    assert story.stranger.split()[0] != "0"
    assert "uthentication" in story.stranger


def test_no_file_of_the_head_holds_a_token(story: Story) -> None:
    assert story.leaks == []


def test_trials_ran_on_two_hosts_or_more_and_none_on_the_head(story: Story) -> None:
    hosts = trials_per_host(story.run)
    head = story.cloud.hosts[story.at_up[0]["InstanceId"]].hostname
    assert len(hosts) >= 2
    assert head not in hosts


def test_trials_of_the_lost_machine_go_on_elsewhere_from_their_checkpoints(story: Story) -> None:
    events = read_journal(story.run)
    retried = {event["trial_id"] for event in events if event["event"] == "retried"}
    assert retried
    ended = {event["trial_id"]: event for event in events if event["event"] == "ended"}
    for trial_id in retried:
        assert ended[trial_id]["status"] == "finished"
        assert ended[trial_id]["host"] != story.reclaimed
    assert max(ended[trial_id]["resumed_epoch"] for trial_id in retried) >= 1


def test_every_epoch_is_in_the_journal_once(story: Story) -> None:
    events = read_journal(story.run)
    epochs = [(e["trial_id"], e["epoch"]) for e in events if e["event"] == "epoch"]
    assert len(epochs) == len(set(epochs)) == TRIALS * EPOCHS


def test_table_is_that_of_a_single_machine(story: Story, alone: Path) -> None:
    ours, theirs = comparable(story.run), comparable(alone)
    assert len(ours) == len(theirs) > TRIALS
    assert ours == theirs
    print(f"equal tables: {len(ours)} rows, {len(ours[0])} columns")


def test_nothing_is_left_after_ray_down(story: Story) -> None:
    assert story.left == []
    assert story.left_volumes == []
