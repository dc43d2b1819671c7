"""What the package is worth, measured: each study is one command and writes one page.

`python -m evidence --list` names them. A study's `plan` says what is run, `run` runs it, `numbers`
are what came out, `claims` what follows, and `page` with its template is what is read.
"""
