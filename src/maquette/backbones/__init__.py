"""The locked networks that ControlNets steer: one file per family, behind one protocol."""
