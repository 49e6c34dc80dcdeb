"""KubeRay: a RayJob, and a ConfigMap with its files and its start script.

Fields are those of `ray.io/v1` (ray-project/kuberay, ray-operator/apis/ray/v1). A retry creates a new cluster, which
continues the run: the run's folder is on a volume that outlives the clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from launch.launchers.common import Target, check, document, own_gpu, plain, start_script
from launch.rundir.config import RunConfig
from search_spaces import SearchSpace
from search_spaces.yamlfile import write_yaml

_FILES = "/etc/nas"
_SHARED = "/nas"
_START = "start.sh"
_CALIBRATION = "calibration.yaml"
_RETRIES = 5


@dataclass(frozen=True)
class Kube:
    """The Kubernetes cluster.

    ``image`` holds this package and Ray; ``claim`` is a volume claim that many nodes can write (ReadWriteMany), for the
    run's folder; ``cpus`` and ``memory`` of a worker pod are in Kubernetes' notation.
    """

    image: str
    claim: str
    cpus: int = 8
    memory: str = "32Gi"
    namespace: str | None = None


def kuberay(config: RunConfig, space: SearchSpace, target: Target, kube: Kube, calibration: str | None = None) -> str:
    """The text of two documents, for `kubectl apply -f`. `target.run` is relative to the volume.

    Pods cannot read files of this machine. So the run file is written in full, with the recipe's settings;
    `calibration` is the text of the calibration file.

    Raises:
        UserError: no trial could ever start on such pods, or an option would break the text.
    """
    check(config, target)
    for option, value in (("--image", kube.image), ("--claim", kube.claim), ("--memory", kube.memory)):
        plain(option, value)
    settings = config.model_copy(
        update={
            "space": "space.yaml",
            "recipe": None,
            "calibration": None if calibration is None else f"{_FILES}/{_CALIBRATION}",
            "resources": config.resources.model_copy(update={"address": None}),
        }
    )
    run = f"{_SHARED}/{target.run.lstrip('/')}"
    metadata: dict[str, Any] = {"name": target.name}
    if kube.namespace is not None:
        metadata["namespace"] = plain("--namespace", kube.namespace)
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {
            "run.yaml": write_yaml(settings.model_dump(mode="json", exclude_none=True)),
            "space.yaml": space.dump(),
            **({} if calibration is None else {_CALIBRATION: calibration}),
            _START: start_script(["nas", "search", f"{_FILES}/run.yaml"], run, "auto"),
        },
    }
    alone = own_gpu(config, target)
    limits: dict[str, Any] = {"cpu": str(kube.cpus), "memory": kube.memory}
    if target.gpus_per_node:
        limits["nvidia.com/gpu"] = str(target.gpus_per_node)
    spec: dict[str, Any] = {
        # The operator puts it unquoted after `ray job submit --` in a bash line, and Ray passes it to a shell again.
        # Two plain words survive both.
        "entrypoint": f"bash {_FILES}/{_START}",
        # The driver runs on a worker: it measures, so it needs the trials' kind of device.
        "entrypointNumCpus": 1,
        **({"entrypointNumGpus": 1} if alone else {}),
        "backoffLimit": _RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 300,
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            "headGroupSpec": {
                "serviceType": "ClusterIP",
                # Another pod submits the job to the dashboard; the service is not reachable from outside the cluster.
                "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
                "template": _pod(target, kube, "ray-head", {"cpu": "2", "memory": "8Gi"}),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "trials",
                    "replicas": target.nodes,
                    "minReplicas": target.nodes,
                    "maxReplicas": target.nodes,
                    "rayStartParams": {},
                    "template": _pod(target, kube, "ray-worker", limits),
                }
            ],
        },
    }
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}
    return f"{document(config_map)}---\n{document(job)}"


def _pod(target: Target, kube: Kube, name: str, limits: Mapping[str, str]) -> dict[str, Any]:
    return {
        "spec": {
            "containers": [
                {
                    "name": name,
                    "image": kube.image,
                    "resources": {"requests": dict(limits), "limits": dict(limits)},
                    "volumeMounts": [
                        {"name": "runs", "mountPath": _SHARED},
                        {"name": "files", "mountPath": _FILES, "readOnly": True},
                        # Ray's object store: the trials of a node share the data set in it.
                        {"name": "shm", "mountPath": "/dev/shm"},
                    ],
                }
            ],
            "volumes": [
                {"name": "runs", "persistentVolumeClaim": {"claimName": kube.claim}},
                {"name": "files", "configMap": {"name": target.name}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        }
    }
