"""Models that learn when and how long to think: AdaptThink and length rewards, on TRL's trainer."""
