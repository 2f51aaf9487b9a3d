"""Models that learn when and how long to think: AdaptThink, length rewards, shortening. On TRL's trainers."""
