"""How the embedded base, its detectors and its ControlNets are made, from nothing."""
