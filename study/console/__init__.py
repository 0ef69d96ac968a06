"""What `study.run` does beside trials: its last tables, `--status` and `--repair`, `--confirm`."""
