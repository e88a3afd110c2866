"""i3D.net's task system, below `/v3`."""
