"""The commands of `reconciler`, a module for each kind. Each lists its own in COMMANDS."""
