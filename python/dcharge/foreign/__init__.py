"""Models of other programs, made dcharge models: `dcharge convert-from`."""
