#!/usr/bin/env bash
# Makes a fresh Ubuntu machine a node of the cluster; doing it again changes nothing.
#   NFS=SERVER:/PATH bash setup_node.sh     NFS left out: SHARED is mounted already
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
shared="${SHARED:-/mnt/sweep}"
env="$HOME/sweep-env"

mount_shared() {
  if mountpoint -q "$shared"; then return; fi
  if [ -z "${NFS:-}" ]; then
    echo "setup_node.sh: nothing is mounted at $shared; set NFS=SERVER:/PATH, or SHARED" >&2
    exit 1
  fi
  command -v mount.nfs4 >/dev/null || { sudo apt-get update -qq && sudo apt-get install -y -qq nfs-common; }
  sudo mkdir -p "$shared"
  # The options that Amazon recommends for EFS; "hard": a lost server delays, it loses nothing.
  sudo mount -t nfs4 -o nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport "$NFS" "$shared"
  sudo chown "$(id -u):$(id -g)" "$shared"
}

share_folders() {
  mkdir -p "$shared/runs" "$shared/hf"
  chmod 700 "$shared/hf"
  # The run folder has the same path on every node, and `--out` can be left out.
  ln -sfn "$shared/runs" "$here/runs"
}

install_packages() {
  local stamp
  stamp="$(cat "$here/pyproject.toml" "$here/constraints.txt" | sha256sum | cut -d' ' -f1)"
  if [ "$(cat "$env/installed" 2>/dev/null)" = "$stamp" ]; then return; fi
  command -v rsync >/dev/null && python3 -c 'import ensurepip' 2>/dev/null ||
    { sudo apt-get update -qq && sudo apt-get install -y -qq rsync python3-venv; }
  python3 -m venv "$env"
  "$env/bin/pip" install --quiet --disable-pip-version-check -c "$here/constraints.txt" -e "$here[aws]"
  echo "$stamp" >"$env/installed"
}

set_variables() {
  {
    echo "export PATH=\"$env/bin:\$PATH\""
    echo "export RAY_AUTH_MODE=token"
    echo "export HF_HOME=\"$shared/hf\""
    # Only the head has this file; there `python -m sweep.run` means this cluster.
    if [ -f "$HOME/ray_bootstrap_config.yaml" ]; then echo "export RAY_ADDRESS=auto"; fi
  } >"$HOME/.sweeprc"
  grep -qxF '. ~/.sweeprc' "$HOME/.bashrc" 2>/dev/null || echo '. ~/.sweeprc' >>"$HOME/.bashrc"
  if [ -f "$HOME/.ray/auth_token" ]; then chmod 600 "$HOME/.ray/auth_token"; fi
}

mount_shared
share_folders
install_packages
set_variables
