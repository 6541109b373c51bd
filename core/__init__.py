"""Numerics of the sweep: a CNN and its trainer in which the trials of a group are one array axis."""

__path__.append(f"{__path__[0]}/export/former_names")  # for registered models of earlier versions
