"""What computes: each backend fills the contract of core.ops."""
