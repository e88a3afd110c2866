"""The `container` machine: a stand-in among the runner's children for what an engine runs."""
