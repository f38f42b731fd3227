"""What may be chosen about a ControlNet, by name; apart from the network, so that a command line knows it at once."""

from typing import Literal

EncoderName = Literal["release", "paper"]
"""Layout of the condition encoder: the published one, or the paper's words."""
Connect = Literal["all", "middle"]
"""Which residuals are used: every slot, or the middle block's alone (small-scale training)."""
Kind = Literal["zero", "gaussian", "lite"]
"""Zero convolutions; Gaussian ones or convolutions in the copy's place, for ablations."""
