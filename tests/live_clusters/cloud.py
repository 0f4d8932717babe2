"""EC2 without Amazon: moto keeps the books, and each instance it hands out becomes a host."""

import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import boto3
from namespaces import Host, wait_for

ADDRESS = "172.31.0.1"
ENDPOINT = f"http://{ADDRESS}:5000"
REGION = "us-west-2"
VARIABLES = {
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "AWS_DEFAULT_REGION": REGION,
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
}


class Cloud:
    """A region of its own: what runs in moto's books runs as a namespace, and no longer."""

    def __init__(self, state: Path, shared: Path) -> None:
        self.hosts: dict[str, Host] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._state, self._shared = state, shared
        os.environ.update(VARIABLES)
        self._log = (state / "moto.log").open("wb")
        self._moto = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", ADDRESS, "-p", "5000"],
            stdout=self._log,
            stderr=self._log,
        )
        self.ec2 = boto3.client("ec2", region_name=REGION)
        wait_for("moto", self._answers, 60)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _answers(self) -> bool:
        try:
            self.ec2.describe_vpcs()
        except Exception:  # it is not up yet
            return False
        return True

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """Return the instances in one of ``states`` (all, if none is named)."""
        pages = self.ec2.describe_instances()["Reservations"]
        found = [instance for page in pages for instance in page["Instances"]]
        return [i for i in found if not states or i["State"]["Name"] in states]

    def seen(self) -> list[dict[str, Any]]:
        """Return every instance that ever ran, as the books had it last while it did."""
        return list(self._seen.values())

    def _follow(self) -> None:
        while not self._over.is_set():
            try:
                self._keep_up()
            except Exception:  # the launcher would wait in silence for a machine that never comes
                traceback.print_exc()
                return
            time.sleep(0.3)

    def _keep_up(self) -> None:
        alive = {i["InstanceId"]: i for i in self.instances("running", "pending")}
        for name, instance in alive.items():
            if name not in self.hosts:
                self.hosts[name] = self._start(instance)
        self._seen |= alive
        for name in set(self.hosts) - set(alive):
            self.hosts[name].kill()

    def _start(self, instance: dict[str, Any]) -> Host:
        key = Path(os.environ["HOME"]) / ".ssh" / f"{instance['KeyName']}.pem"
        public = subprocess.run(
            ["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True
        )
        told = "".join(f"export {name}={value}\n" for name, value in VARIABLES.items())
        told += "export PYTHONPATH=/root/sweep RAY_worker_niceness=0\n"
        address = instance["PrivateIpAddress"]
        return Host(address, 16, public.stdout, self._state, self._shared, told)

    def reclaim(self, instance_id: str) -> None:
        """Take a machine away, as Amazon takes a spot machine: in the books, and in fact."""
        self.ec2.terminate_instances(InstanceIds=[instance_id])
        self.hosts[instance_id].kill()

    def close(self) -> None:
        """End every host and the books."""
        self._over.set()
        self._thread.join(10)
        for host in self.hosts.values():
            host.kill()
        self._moto.kill()
        self._moto.wait()
        self._log.close()
