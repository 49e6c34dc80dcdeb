"""What starts a search on a cluster, as text: pure functions of a run and of what the cluster is like.

Each renders what the cluster's own tool takes; nothing here starts anything, save `slurm.submit`.
"""

from launch.launchers.common import Target
from launch.launchers.kuberay import Kube, kuberay
from launch.launchers.rayup import PROVIDERS, Cloud, ray_up
from launch.launchers.slurm import Slurm, slurm, submit

__all__ = ["PROVIDERS", "Cloud", "Kube", "Slurm", "Target", "kuberay", "ray_up", "slurm", "submit"]
