"""Small models of the usual families: no running statistics, no dropout."""
