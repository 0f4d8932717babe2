"""Hosts made of namespaces: each has its own address, processes, home, sshd and nothing shared but
one folder. They live inside the test's own network namespace and die with it."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
NODE_SETUP = REPO / "clusters" / "setup_node.sh"
BRIDGE = "clouds"
SSHD = "/usr/sbin/sshd"

INIT = """\
set -e
mount --make-rprivate /
hostname {hostname}
ip link set lo up
mkdir -p {state}/stash-base {state}/stash-env {state}/empty /mnt/sweep
mount --bind {base} {state}/stash-base
mount --bind {env} {state}/stash-env
mount --bind {state}/root /root
mkdir -p {base}
mount --bind {state}/stash-base {base}
mkdir -p {env}
mount --bind {state}/stash-env {env}
# The code that runs here must be the copy that travelled.
mount --bind {state}/empty {repo}/sweep
mount --bind {state}/empty {repo}/analysis
mount --bind {shared} /mnt/sweep
mount --bind {state}/hosts /etc/hosts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /run/hostkey
exec {sshd} -D -e -f /dev/null -o ListenAddress={address} -o HostKey=/run/hostkey \\
  -o UsePAM=no -o StrictModes=no -o PasswordAuthentication=no -o MaxStartups=100 \\
  -o AuthorizedKeysFile=/root/.ssh/authorized_keys
"""


def run(*command: str) -> str:
    """Run a command; return what it prints; raise with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def make_bridge(address: str) -> None:
    """Make the network that the hosts share; this process has ``address`` (with /bits) in it."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", address, "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def drop_bridge() -> None:
    """Remove the network."""
    run("ip", "link", "del", BRIDGE)


class Host:
    """A machine on the bridge, reachable by SSH as root with one public key."""

    def __init__(
        self, address: str, bits: int, public_key: str, state: Path, shared: Path, variables: str
    ) -> None:
        self.address = address
        self.hostname = "ip-" + address.replace(".", "-")
        self._space = "h" + address.replace(".", "-")[-12:]
        self._state = state / self.hostname
        gateway = (
            address.rsplit(".", 2)[0] + ".0.1" if bits == 16 else address.rsplit(".", 1)[0] + ".1"
        )
        self._write_home(public_key, variables)
        self._join_network(bits, gateway)
        self._process = self._start(shared)

    def _write_home(self, public_key: str, variables: str) -> None:
        home = self._state / "root"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh" / "authorized_keys").write_text(public_key)
        (self._state / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.hostname}\n")
        (home / ".bashrc").write_text(variables)
        (home / ".bash_profile").write_text(". ~/.bashrc\n")
        write_environment(home / "sweep-env")

    def _join_network(self, bits: int, gateway: str) -> None:
        name, link = self._space, "v" + self._space[-10:]
        run("ip", "netns", "add", name)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", link, "master", BRIDGE, "up")
        run("ip", "-n", name, "address", "add", f"{self.address}/{bits}", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "route", "add", "default", "via", gateway)

    def _start(self, shared: Path) -> subprocess.Popen[bytes]:
        script = self._state / "init.sh"
        script.write_text(
            INIT.format(
                hostname=self.hostname,
                state=self._state,
                base=sys.base_prefix,
                env=sys.prefix,
                repo=REPO,
                shared=shared,
                sshd=SSHD,
                address=self.address,
            )
        )
        command = ["ip", "netns", "exec", self._space, "unshare", "--mount", "--pid", "--fork"]
        command += ["--kill-child", "--uts", "--ipc", "--mount-proc", "bash", str(script)]
        log = (self._state / "init.log").open("wb")
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def kill(self) -> None:
        """Pull the plug: every process of the host dies at once, its network goes."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        with contextlib.suppress(RuntimeError):
            run("ip", "netns", "del", self._space)


def write_environment(folder: Path) -> None:
    """Make ``folder`` look like the environment that the set-up installs: this one, under its
    name. A namespace has no way to a package index."""
    (folder / "bin").mkdir(parents=True)
    for name, module in (("python", ""), ("ray", "-m ray.scripts.scripts")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.prefix}/bin/python {module} "$@"\n')
        script.chmod(0o755)
    files = [str(REPO / name) for name in ("pyproject.toml", "constraints.txt")]
    stamp = run("bash", "-c", f"cat {shlex.join(files)} | sha256sum | cut -d' ' -f1")
    (folder / "installed").write_text(stamp)


def wait_for(what: str, holds: object, seconds: float) -> float:
    """Wait until ``holds()`` is true; return the seconds it took, or raise."""
    started = time.monotonic()
    while not holds():  # type: ignore[operator]
        if time.monotonic() - started > seconds:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)
    return time.monotonic() - started
