"""Who pays, how much may be spent, and what was used."""
