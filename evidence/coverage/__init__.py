"""How often the intervals err that the pages and the report print."""
