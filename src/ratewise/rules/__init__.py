"""Pure decisions: a frozen config, an immutable state, `init` and `update`; no framework."""
