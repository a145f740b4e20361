"""Level 0: registry, argument checks, error types, files, seeds, version guards."""
