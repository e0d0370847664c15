"""The parts of `request` and `approve`: the policy, what its status tells, and following a run."""
