"""Libraries that the course is measured against, made to compute the course's own networks."""
