"""A run: identity, entries, commit, index, claims."""
