"""SLURM: one batch script that starts Ray on every node of the allocation and the search on the first.

It follows Ray's documentation (deploying on Slurm: `srun` starts a head on the first node and workers on the others).
It does not use `ray symmetric-run`, which ends every Ray of the user on the node (`ray stop`), does not pass signals to
the command, and starts a cluster without a token.
"""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from launch.errors import UserError
from launch.launchers.common import Target, check, own_gpu, plain
from launch.rundir.config import RunConfig
from search_spaces.errors import named

_LEAVE_S = 120
"""Seconds before the time limit at which the search and Ray are stopped."""

_SCRIPT = """\
#!/bin/bash
{directives}
# Written by `nas launch slurm`. Submit it again, or let SLURM requeue it: it continues a run that exists already.
set -euo pipefail

run={run}
export RAY_USAGE_STATS_ENABLED=0
# The token protects this Ray: its ports are open to the network that the nodes share.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')

# USR1 comes before the time limit, TERM when the job is preempted or cancelled. In both cases the search stops between
# two events, and all finished work is in its journal.
driver= again= leaving=
ask() {{
  leaving=1
  [ -z "$driver" ] || kill -TERM "$driver" 2> /dev/null || true
}}
trap 'again=1; ask' USR1
trap ask TERM INT

# Read all names: a pipe that is closed after the first would end scontrol, and the job without a message.
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${{nodes%%$'\\n'*}}
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{{print $1}}')
port=$((20000 + SLURM_JOB_ID % 10000))
address=$head_ip:$port

steps=()
leave() {{
  for step in "${{steps[@]}}"; do kill -TERM "$step" 2> /dev/null || true; done
  wait
}}
trap leave EXIT
{driver_gpu}
# Ray gives its start up after 30 seconds, and a busy node may need more. The search cannot go on without the Ray of the
# first node, so when that ends, everything is started again and the run continues. A kill loses nothing.
for life in {{1..3}}; do
  srun --overlap --no-kill --nodes=1 --ntasks=1 --nodelist="$head" --cpus-per-task="$SLURM_CPUS_ON_NODE" \\
    ray start --head --block --node-ip-address="$head_ip" --port="$port" --include-dashboard=false \\
    --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus={head_gpus} &
  first=$!
  steps=("$first")
  for attempt in {{1..60}}; do
    kill -0 "$first" 2> /dev/null || break
    ray health-check --address "$address" > /dev/null 2>&1 && break
    sleep 1
  done
{workers}  if nas status "$run" > /dev/null 2>&1; then
    {on_gpu}nas resume "$run" --address "$address" &
  else
    {on_gpu}{search} --run "$run" --address "$address" &
  fi
  driver=$!
  [ -z "$leaving" ] || ask
  while kill -0 "$driver" 2> /dev/null && kill -0 "$first" 2> /dev/null; do
    sleep 1 &
    wait $! || true
  done
  if ! kill -0 "$first" 2> /dev/null; then
    echo 'The Ray of the first node has ended' >&2
    kill -KILL "$driver" 2> /dev/null || true
  fi
  code=0
  wait "$driver" || code=$?
  if [ "$code" -eq 0 ] || [ -n "$leaving" ] || kill -0 "$first" 2> /dev/null; then break; fi
  leave
done
if [ -n "$again" ] && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

_WORKERS = """\
  # Nodes may join late or leave: trials start on those that are present.
  srun --overlap --no-kill --kill-on-bad-exit=0 --nodes={others} --ntasks={others} --ntasks-per-node=1 \\
    --exclude="$head" --cpus-per-task="$SLURM_CPUS_ON_NODE" \\
    bash -c 'for life in {{1..3}}; do "$@" && exit; done' start \\
    ray start --block --address="$address" --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus={gpus} &
  steps+=($!)
"""

_DRIVER_GPU = """
# The last GPU of the first node is hidden from Ray: the driver measures on it, undisturbed.
gpus=${{CUDA_VISIBLE_DEVICES:-{last}}}
"""


@dataclass(frozen=True)
class Slurm:
    """The site's options; None uses the site's default. ``time`` is in SLURM's format: ``1-12:00:00``."""

    cpus_per_node: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None


def slurm(config: RunConfig, target: Target, site: Slurm = Slurm()) -> str:
    """The text of a batch script.

    Raises:
        UserError: no trial could ever start on such nodes, or an option would break the script.
    """
    check(config, target)
    alone = own_gpu(config, target)
    directives = {
        "job-name": target.name,
        "nodes": str(target.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": None if site.cpus_per_node is None else str(site.cpus_per_node),
        "gpus-per-node": str(target.gpus_per_node) if target.gpus_per_node else None,
        "time": site.time,
        "partition": site.partition,
        "account": site.account,
        "output": f"{target.name}-%j.log",
        "open-mode": "append",
        "requeue": "",
        "no-kill": "",
        "signal": f"B:USR1@{_LEAVE_S}",
    }
    lines = [
        f"#SBATCH --{name}={plain(f'--{name}', value)}" if value else f"#SBATCH --{name}"
        for name, value in directives.items()
        if value is not None
    ]
    if site.cpus_per_node is None:
        lines.append("#SBATCH --exclusive")  # the job then has all CPUs of the node
    search = ["nas", "search", target.file]
    for assignment in target.overrides:
        search += ["--set", assignment]
    return _SCRIPT.format(
        directives="\n".join(lines),
        run=shlex.quote(target.run),
        head_gpus=target.gpus_per_node - alone,
        workers=_WORKERS.format(others=target.nodes - 1, gpus=target.gpus_per_node) if target.nodes > 1 else "",
        driver_gpu=_DRIVER_GPU.format(last=target.gpus_per_node - 1) if alone else "",
        on_gpu='CUDA_VISIBLE_DEVICES="${gpus##*,}" ' if alone else "",
        search=shlex.join(search),
    )


def submit(script: Path) -> str:
    """Submits a script with `sbatch`; returns its output.

    Raises:
        UserError: there is no `sbatch` here, or it refused.
    """
    try:
        done = subprocess.run(["sbatch", str(script)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            f"there is no sbatch on this machine; {named(script)} is written: submit it elsewhere"
        ) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"sbatch refused {named(script)}: {' '.join(error.stderr.split())}") from error
    return done.stdout.strip()
