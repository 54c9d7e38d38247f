"""What calls cost, and what was saved."""
