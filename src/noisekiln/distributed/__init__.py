"""Distributed training: ranks, DDP with recovery, sharded weights."""
