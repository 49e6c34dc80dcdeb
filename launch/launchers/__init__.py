"""Renders the files that start a search on a cluster: pure functions of a run and a description of the cluster.

Each renders the input of the cluster's own tool. Only `slurm.submit` starts anything.
"""

from launch.launchers.common import Target
from launch.launchers.kuberay import Kube, kuberay
from launch.launchers.rayup import PROVIDERS, Cloud, ray_up
from launch.launchers.slurm import Slurm, slurm, submit

__all__ = ["PROVIDERS", "Cloud", "Kube", "Slurm", "Target", "kuberay", "ray_up", "slurm", "submit"]
