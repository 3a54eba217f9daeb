"""Everything that is kept: the only part of the manager that speaks SQL."""
