"""The network: parameters, forward, backward."""
