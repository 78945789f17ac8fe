"""Other programs beside dcharge, each run by its own Python in a process of its own."""
