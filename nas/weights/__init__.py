"""Trained weights of other files and libraries: read into a network, and written back."""

from nas.weights.layouts import LAYOUTS, Layout, to_peer, to_torchvision
from nas.weights.loading import Loaded, Weights, WeightsError, load_weights

__all__ = ["LAYOUTS", "Layout", "Loaded", "Weights", "WeightsError", "load_weights", "to_peer", "to_torchvision"]
