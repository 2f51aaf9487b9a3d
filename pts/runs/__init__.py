"""Run directories: a manifest, an append-only shard, what is derived from them, and a lock."""
