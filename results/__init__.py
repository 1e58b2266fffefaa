"""Records, their database, the questions asked of it, and the statistics behind the answers. No torch here."""
