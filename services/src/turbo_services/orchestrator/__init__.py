"""orchestrator: an example workload that asks another one."""
