"""What is learned about spot pools: start-ups, interruptions, lifetimes, and which pools to use now."""
