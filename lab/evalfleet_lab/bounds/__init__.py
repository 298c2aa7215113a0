"""What a planner that knows the future would have paid: exact and linear lower bounds."""
