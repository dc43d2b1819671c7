"""The evidence: each study is a command that writes a page of `docs/evidence`."""
