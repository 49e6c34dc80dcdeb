"""`ray up`: the cluster file for a cloud or for one's own machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.errors import UserError
from launch.launchers.common import Target, check, document, plain
from launch.rundir.config import RunConfig

_PORT = 6379
_OBJECT_MANAGER_PORT = 8076

_Machine = tuple[str, int]
"""A machine type and its number of CPUs."""

_MACHINES: Mapping[str, Mapping[int, _Machine]] = {
    "aws": {0: ("m7i.4xlarge", 16), 1: ("g5.4xlarge", 16), 8: ("p4d.24xlarge", 96)},
    "gcp": {0: ("n2-standard-16", 16), 1: ("a2-highgpu-1g", 12), 8: ("a2-highgpu-8g", 96)},
    "azure": {0: ("Standard_D16s_v5", 16), 1: ("Standard_NC24ads_A100_v4", 24), 8: ("Standard_ND96asr_v4", 96)},
}
"""Provider -> GPUs per machine -> a machine type with as many."""

_REGIONS: Mapping[str, str] = {"aws": "us-west-2", "gcp": "us-central1", "azure": "westus2"}
PROVIDERS = (*_MACHINES, "local")


@dataclass(frozen=True)
class Cloud:
    """The machines, rented or one's own.

    ``hosts``: only for `local`, the head first; ``machine`` and ``cpus``: replace the default type for the number of
    GPUs; ``project``: the id of a gcp project; ``user``: for ssh; ``source``: this package's folder, which is copied to
    the machines and installed there.
    """

    provider: str
    hosts: Sequence[str] = ()
    machine: str | None = None
    cpus: int | None = None
    region: str | None = None
    project: str | None = None
    user: str = "ubuntu"
    source: str = "."


def ray_up(config: RunConfig, target: Target, cloud: Cloud) -> str:
    """The text of a cluster file, for `ray up`.

    Raises:
        UserError: no trial could ever start on such machines, a machine type is unknown, or an option is missing.
    """
    check(config, target)
    common = {
        "cluster_name": target.name,
        "auth": {"ssh_user": plain("--user", cloud.user)},
        "file_mounts": {"~/attention-nas": cloud.source},
        "rsync_exclude": ["**/.git", "**/.venv", "**/runs", "**/data"],
        "setup_commands": ["python3 -m pip install --user 'ray[default,tune]' ~/attention-nas"],
        # The dashboard listens on the head's loopback: `ray dashboard` opens a tunnel to it.
        "head_start_ray_commands": [
            "ray stop",
            f"ulimit -n 65536; ray start --head --port={_PORT} --object-manager-port={_OBJECT_MANAGER_PORT} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml --dashboard-host=127.0.0.1",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"ulimit -n 65536; ray start --address=$RAY_HEAD_IP:{_PORT} --object-manager-port={_OBJECT_MANAGER_PORT}",
        ],
    }
    if cloud.provider == "local":
        return document({**common, **_own(target, cloud)})
    if cloud.provider not in _MACHINES:
        raise UserError(f"--provider: there is no {cloud.provider!r}; choose one of {', '.join(PROVIDERS)}")
    return document({**common, **_rented(target, cloud)})


def _own(target: Target, cloud: Cloud) -> dict[str, Any]:
    """One's own machines: Ray itself detects their resources."""
    if len(cloud.hosts) != target.nodes:
        raise UserError(
            f"--hosts names {len(cloud.hosts)} machines and --nodes says {target.nodes}; name each, the head first"
        )
    head, *others = (plain("--hosts", host) for host in cloud.hosts)
    return {
        "provider": {"type": "local", "head_ip": head, "worker_ips": others},
        "max_workers": len(others),
    }


def _rented(target: Target, cloud: Cloud) -> dict[str, Any]:
    region = plain("--region", cloud.region or _REGIONS[cloud.provider])
    known = _MACHINES[cloud.provider]
    if cloud.machine is not None:
        if cloud.cpus is None:
            raise UserError(f"--machine {cloud.machine}: say with --cpus-per-node how many processors it has")
        machine, cpus = plain("--machine", cloud.machine), cloud.cpus
    elif target.gpus_per_node in known:
        machine, cpus = known[target.gpus_per_node]
    else:
        raise UserError(
            f"no machine of {cloud.provider} with {target.gpus_per_node} GPUs is known here; known are those with "
            f"{', '.join(map(str, known))}; name one with --machine and --cpus-per-node"
        )
    provider: dict[str, Any] = {"type": cloud.provider}
    node: dict[str, Any]
    match cloud.provider:
        case "aws":
            provider |= {"region": region}
            disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 256, "VolumeType": "gp3"}}
            node = {"InstanceType": machine, "BlockDeviceMappings": [disk]}
        case "gcp":
            if cloud.project is None:
                raise UserError("gcp needs --project, the id of your project")
            provider |= {"region": region, "availability_zone": f"{region}-a", "project_id": cloud.project}
            image = "common-cu128-ubuntu-2204-nvidia-570" if target.gpus_per_node else "common-cpu"
            start = {
                "diskSizeGb": 256,
                "sourceImage": f"projects/deeplearning-platform-release/global/images/family/{image}",
            }
            node = {
                "machineType": machine,
                "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": start}],
                # Machines with GPUs cannot be moved while they run.
                **({"scheduling": [{"onHostMaintenance": "TERMINATE"}]} if target.gpus_per_node else {}),
            }
        case _:
            provider |= {"location": region, "resource_group": target.name}
            node = {
                "azure_arm_parameters": {
                    "vmSize": machine,
                    "imagePublisher": "microsoft-dsvm",
                    "imageOffer": "ubuntu-2204",
                    "imageSku": "2204-gen2",
                    "imageVersion": "latest",
                }
            }
    resources = {"CPU": cpus, **({"GPU": target.gpus_per_node} if target.gpus_per_node else {})}
    others = target.nodes - 1
    return {
        "provider": provider,
        "max_workers": others,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": resources, "node_config": node},
            "worker": {
                "resources": resources,
                "min_workers": others,
                "max_workers": others,
                "node_config": node,
            },
        },
    }
